"""The compilers of the builds: plain clang-19, and `ame cc` copied into the cache.

The copy makes a cached build independent of later `cargo build` runs: its binaries load
libame_rt.so from the copy that they were linked with.
"""

import os
import shutil
from pathlib import Path

from .cache import Failure, digest, entry
from .run import output

REPO = Path(__file__).resolve().parents[3]
CLANG = "clang-19"
ARTIFACTS = ("ame", "libame_pass.so", "libame_rt.so", "libame_rt.a")
SET = REPO / "annotations/sets/cpython-3.13.toml"


def clang_version():
    if shutil.which(CLANG) is None:
        raise Failure(f"{CLANG} is not installed: apt-get install {CLANG}")
    return output([CLANG, "--version"])


def target_dir():
    return Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target") / "release"


class Compiler:
    """How one variant of CPython is compiled: the words of CC, environment, what its key hashes."""

    def __init__(self, name, cc, env=None, parts=()):
        self.name, self.cc, self.env = name, cc, env or {}
        self.parts = (name, clang_version(), *parts)

    def counting(self, path):
        """Words for make that have the pass write its statistics there. Not by environment: the
        runtime of the programs that the build runs has a variable of that name too."""
        return [] if self.name == "plain" else [f"CC={self.cc} -fame-stats={path}"]


def plain():
    return Compiler("plain", CLANG)


def copied_toolchain():
    """The built artifacts, copied into the cache by content, laid out as cargo does."""
    source = target_dir()
    missing = [name for name in ARTIFACTS if not (source / name).exists()]
    if missing:
        raise Failure(f"{', '.join(missing)} not found in {source}: "
                      "run `cargo build --release` in the repository")
    files = [source / name for name in ARTIFACTS]
    headers = [REPO / "annotations/include/ame.h", REPO / "runtime/include/ame_rt.h"]
    sets = sorted((REPO / "annotations/sets").glob("*.toml"))
    key = digest(*files, *headers, *sets)
    with entry(f"toolchain-{key}") as (folder, is_new):
        if is_new:
            release = folder / "target/release"
            release.mkdir(parents=True)
            for path in files:
                shutil.copy2(path, release / path.name)
            for path in headers + sets:
                place = folder / path.relative_to(REPO)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)
    return folder, key


def ame(annotated=True, options=()):
    """`ame cc` from the repository's build; options are extra NAME=VALUE environment settings."""
    folder, key = copied_toolchain()
    env = dict(option.split("=", 1) for option in options)
    name = "ame" if annotated else "ame-unannotated"
    cc = f"{folder / 'target/release/ame'} cc"
    if annotated:
        cc += set_option(folder / SET.relative_to(REPO))
    return Compiler(name, cc, env, (key, *sorted(options)))


def set_option(path):
    if not path.exists():
        raise Failure(f"{SET} does not exist: use the variant ame-unannotated")
    return f" -fame-annotations={path}"


def variant(name, options=()):
    if name == "plain":
        return plain()
    if name == "ame":
        return ame(True, options)
    if name == "ame-unannotated":
        return ame(False, options)
    raise Failure(f"no variant {name}: one of plain, ame, ame-unannotated")
