"""Configure, compile and install one variant of CPython in the cache.

All variants share these choices, so that only the compiler differs:

* default configuration: -O3, GIL, no PGO, no LTO, static libpython, debug information;
* bundled libmpdec, expat and HACL, so that they are compiled by the variant's compiler too;
* no ensurepip (it would need a wheel, and adds nothing to test), no Tk.
"""

import os
import resource
import shlex
import shutil
import time

from . import source
from .cache import Failure, digest, entry, say
from .run import clean_env, logged, tail
from .size import STATISTICS

CONFIGURE = ("--with-ensurepip=no", "--with-system-libmpdec=no")
PACKAGES = ("build-essential pkg-config libssl-dev zlib1g-dev libffi-dev libsqlite3-dev libbz2-dev "
            "liblzma-dev libreadline-dev libncurses-dev libgdbm-dev libgdbm-compat-dev uuid-dev")
REMEDY = f"are the build packages installed? apt-get install {PACKAGES}"
# Modules whose absence means a missing package, not a choice.
REQUIRED = ("ssl", "zlib", "ctypes", "sqlite3", "bz2", "lzma", "readline", "curses", "decimal")


class Build:
    """A finished build: `tree` is the source tree it was built in, `python` the executable."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.tree = folder / f"Python-{source.VERSION}"
        self.python = self.tree / "python"
        self.installed = folder / "install/bin/python3.13"
        self.key = folder.name


def configure(tree, prefix, compiler, log):
    env = clean_env(CC=compiler.cc, **compiler.env)
    logged(["./configure", f"--prefix={prefix}", *CONFIGURE], log, cwd=tree, env=env,
           what=f"configure of CPython ({compiler.name})", remedy=REMEDY)


def make(tree, compiler, log, jobs, *targets):
    env = clean_env(**compiler.env)
    logged(["make", f"-j{jobs}", *targets], log, cwd=tree, env=env,
           what=f"make of CPython ({compiler.name})", remedy=REMEDY)


def key(compiler):
    return digest(source.SHA256, *CONFIGURE, *compiler.parts)


def build(compiler, jobs=2):
    """Returns the Build of this compiler, from the cache when it is there."""
    with entry(f"cpython-{compiler.name}-{key(compiler)}") as (folder, is_new):
        result = Build(compiler.name, folder)
        if not is_new:
            return result
        say(f"building CPython {source.VERSION} ({compiler.name}) in {folder}; CC={compiler.cc}")
        source.unpack(folder)
        log = folder / "build.log"
        compiler.env["AME_PASS_STATS"] = str(folder / STATISTICS)
        start = time.monotonic()
        configure(result.tree, folder / "install", compiler, log)
        say(f"{compiler.name}: configured; compiling with make -j{jobs}, see {log}")
        make(result.tree, compiler, log, jobs, *compiler.counting(folder / STATISTICS))
        check_modules(result, log)
        make(result.tree, compiler, log, jobs, "altinstall")
        say(f"{compiler.name}: done after {time.monotonic() - start:.0f} s")
        return result


def check_modules(result, log):
    """A module that could not be built would silently shrink the comparison."""
    import subprocess
    code = "import importlib\nfor m in %r: importlib.import_module(m)" % (REQUIRED,)
    found = subprocess.run([result.python, "-c", code], env=clean_env(), text=True,
                           stderr=subprocess.PIPE)
    if found.returncode != 0:
        raise Failure(f"the build of CPython ({result.name}) misses a module: "
                      f"{found.stderr.strip().splitlines()[-1]}\n{REMEDY}\n{tail(log)}")


def timed(compiler, folder, jobs):
    """(wall, CPU) seconds of a clean `make` of this compiler in folder, without configure and
    install. On a busy machine only the CPU time says something."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tree = source.unpack(folder)
    log = folder / "build.log"
    configure(tree, folder / "install", compiler, log)
    os.sync()
    start, used = time.monotonic(), children_seconds()
    make(tree, compiler, log, jobs)
    return time.monotonic() - start, children_seconds() - used


def children_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def describe(compiler):
    return f"CC={shlex.quote(compiler.cc)} ./configure {' '.join(CONFIGURE)}"
