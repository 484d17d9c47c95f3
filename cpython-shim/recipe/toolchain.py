"""The compilers of the builds: plain clang-19, and `ame cc` copied into the cache.

The copy makes a cached build independent of later `cargo build` runs: its binaries load
libame_rt.so from the copy that they were linked with.
"""

import os
import shutil
from pathlib import Path

from .cache import Failure, digest, entry
from .run import output

# The repository, or the folder of an installation that is laid out like it (ci/install.sh).
REPO = Path(__file__).resolve().parents[2]
CLANG = "clang-19"
ARTIFACTS = ("ame", "libame_pass.so", "libame_rt.so", "libame_rt.a")
SET = "annotations/sets/cpython-3.13.toml"
SHIM = "cpython-shim"
VARIANTS = ("parallel", "plain", "free-threaded", "ame", "ame-unannotated")


def clang_version():
    if shutil.which(CLANG) is None:
        raise Failure(f"{CLANG} is not installed: apt-get install {CLANG}")
    return output([CLANG, "--version"])


def artifacts():
    """Where cargo has put what it built."""
    folder = Path(os.environ.get("CARGO_TARGET_DIR") or REPO / "target") / "release"
    return [folder / name for name in ARTIFACTS]


class Compiler:
    """How one variant of CPython is compiled: the words of CC, further words of configure, what its
    key hashes, environment, that of configure only. `home` is the folder of the toolchain and of what
    it reads."""

    def __init__(self, name, cc, parts=(), flags=(), env=None, home=None, configure=None):
        self.name, self.cc, self.flags, self.env, self.home = name, cc, flags, env or {}, home
        self.configure = configure or {}
        self.parts = (name, clang_version(), *parts)

    def counting(self, path):
        """Words for make that have the pass write its statistics there. Not by environment: the
        runtime of the programs that the build runs has a variable of that name too."""
        return [f"CC={self.cc} -fame-stats={path}"] if self.home else []


def plain():
    return Compiler("plain", CLANG)


def free_threaded():
    return Compiler("free-threaded", CLANG, flags=("--disable-gil",))


def copied_toolchain(files, with_shim=False):
    """Built artifacts and what they read, copied into the cache by content, laid out as here."""
    missing = [path for path in files if not path.exists()]
    if missing:
        raise Failure(f"{' '.join(map(str, missing))} not found: "
                      "run `cargo build --release` in the repository")
    read = [REPO / "annotations/include/ame.h", REPO / "runtime/include/ame_rt.h",
            *sorted((REPO / "annotations/sets").glob("*.toml"))]
    if with_shim:
        for pattern in ("*.toml", "src/*.[ch]", "python/*.py", "recipe/*.py"):
            read += sorted((REPO / SHIM).glob(pattern))
    key = digest(*files, *read)
    with entry(f"toolchain-{key}") as (folder, is_new):
        if is_new:
            release = folder / "target/release"
            release.mkdir(parents=True)
            for path in files:
                shutil.copy2(path, release / path.name)
            for path in read:
                place = folder / path.relative_to(REPO)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, place)
    return folder, key


def instrumented(name, files, options=()):
    """`ame cc` without the shim: no transaction ever begins. Options: NAME=VALUE environment settings."""
    folder, key = copied_toolchain(files)
    cc = f"{folder / 'target/release/ame'} cc"
    if name == "ame":
        cc += annotations(folder / SET)
    env = dict(option.split("=", 1) for option in options)
    return Compiler(name, cc, (key, *sorted(options)), env=env, home=folder)


def parallel(files):
    """AME CPython."""
    return with_shim(*copied_toolchain(files, with_shim=True))


def parallel_in_place(files):
    """AME CPython by the repository's own files, for builds that follow their changes."""
    return with_shim(REPO, "in place", files[0])


def with_shim(home, key, ame=None):
    # The allocator is the runtime's: what others allocate and free, a rollback does not undo.
    cc = (f"{ame or home / 'target/release/ame'} cc"
          f"{annotations(home / SET)}{annotations(home / SHIM / 'cpython-ame.toml')}")
    return Compiler("parallel", cc, (key,), flags=("--without-pymalloc", "--without-mimalloc"), home=home,
                    # What builds extension modules later asks sysconfig for CXX. Of two accesses that become one of a
                    # vector nobody knows the kinds any more.
                    configure={"CXX": cc.replace(" cc ", " c++ ", 1), "CFLAGS_NODIST": "-fno-slp-vectorize"})


def annotations(path):
    return f" -fame-annotations={path}"


def variant(name, options=(), files=None):
    files = files or artifacts()
    if name == "plain":
        return plain()
    if name == "free-threaded":
        return free_threaded()
    if name == "parallel":
        return parallel(files)
    return instrumented(name, files, options)
