"""Configure, compile and install one variant of CPython in the cache.

All variants share these choices, so that only the compiler differs (and the allocator of AME CPython):

* default configuration: -O3, no PGO, no LTO, static libpython, debug information;
* bundled libmpdec, expat and HACL, so that they are compiled by the variant's compiler too;
* no ensurepip (it would need a wheel, and adds nothing to test), no Tk.
"""

import os
import resource
import shutil
import subprocess
import time

from . import edits, extension, shim, source
from .cache import Failure, digest, entry, say, show
from .run import clean_env, logged, output, tail
from .toolchain import SET

CONFIGURE = ("--with-ensurepip=no", "--with-system-libmpdec=no")
PACKAGES = ("build-essential pkg-config libssl-dev zlib1g-dev libffi-dev libsqlite3-dev libbz2-dev "
            "liblzma-dev libreadline-dev libncurses-dev libgdbm-dev libgdbm-compat-dev uuid-dev")
REMEDY = f"are the build packages installed? apt-get install {PACKAGES}"
# Modules whose absence means a missing package, not a choice.
REQUIRED = ("ssl", "zlib", "ctypes", "sqlite3", "bz2", "lzma", "readline", "curses", "decimal")


# The pass' counts, in the folder of a build.
STATISTICS = "pass-statistics.jsonl"


class Build:
    """A build: `tree` is the source tree it is made in, `python` the executable there."""

    def __init__(self, compiler, folder):
        self.name, self.folder, self.log = compiler.name, folder, folder / "build.log"
        self.tree = folder / f"Python-{source.VERSION}"
        self.python = self.tree / "python"
        suffix = "t" if "--disable-gil" in compiler.flags else ""
        self.installed = folder / f"install/bin/python3.13{suffix}"


def configure(tree, prefix, compiler, log):
    env = clean_env(CC=compiler.cc, **compiler.env, **compiler.configure)
    logged(["./configure", f"--prefix={prefix}", *CONFIGURE, *compiler.flags], log, cwd=tree, env=env,
           what=f"configure of CPython ({compiler.name})", remedy=REMEDY)


def make(tree, compiler, log, jobs, *words):
    env = clean_env(**compiler.env)
    logged(["make", f"-j{jobs}", *words], log, cwd=tree, env=env,
           what=f"make of CPython ({compiler.name})", remedy=REMEDY,
           progress=compiling(files_to_compile(tree, env, words)))


def files_to_compile(tree, env, words):
    return sum(map(is_compilation, output(["make", "-n", *words], cwd=tree, env=env,
                                          stderr=subprocess.DEVNULL).splitlines()))


def is_compilation(line):
    return " -c " in line and line.rstrip().endswith((".o", ".c"))


def compiling(total):
    """Shows how far make is, from its lines; on a terminal each file, else about every fifth of them."""
    done = 0

    def count(line):
        nonlocal done
        if is_compilation(line):
            done += 1
            text = f"compiling: file {done} of {total}"
            if done % max(total // 5, 1) == 0:
                say(text)
            else:
                show(text)
    return count


def key(compiler):
    return digest(source.SHA256, *CONFIGURE, *compiler.flags, *compiler.parts)


def build(compiler, jobs=2):
    """Returns the Build of this compiler, from the cache when it is there."""
    with entry(f"cpython-{compiler.name}-{key(compiler)}") as (folder, is_new):
        result = Build(compiler, folder)
        if is_new:
            say(f"building CPython {source.VERSION} ({compiler.name}) in {folder}; CC={compiler.cc}")
            build_in(result, compiler, jobs)
        return result


def build_in(result, compiler, jobs):
    """Makes what is missing: everything in an empty folder, else what make finds out of date."""
    start = time.monotonic()
    tree, log = result.tree, result.log
    if not (tree / "Makefile").exists():
        shutil.rmtree(tree, ignore_errors=True)
        source.unpack(result.folder)
        if compiler.name == "parallel":
            edits.apply(tree)
        say(f"configuring, see {log}")
        configure(tree, result.folder / "install", compiler, log)
    words = compiler.counting(result.folder / STATISTICS)
    if compiler.name == "parallel":
        words += shim.build(result, compiler, jobs, make)
    say(f"compiling with make -j{jobs}")
    make(tree, compiler, log, jobs, *words)
    if compiler.home:
        check_instrumented(result)
    say("installing")
    make(tree, compiler, log, jobs, *words, "altinstall")
    if compiler.name == "parallel":
        extension.write(result, compiler)
    check_modules(result, ("ame", *REQUIRED) if compiler.name == "parallel" else REQUIRED)
    say(f"CPython ({compiler.name}) done after {time.monotonic() - start:.0f} s")


def check_modules(result, names):
    """A module that could not be built would silently shrink what is compared, and what users have."""
    code = "import importlib\nfor m in %r: importlib.import_module(m)" % (names,)
    found = subprocess.run([result.installed, "-c", code], cwd="/", env=clean_env(), text=True,
                           stderr=subprocess.PIPE)
    if found.returncode != 0:
        error = found.stderr.strip().splitlines() or [f"exit code {found.returncode}"]
        raise Failure(f"the build of CPython ({result.name}) misses a module: {error[-1]}\n{REMEDY}\n"
                      f"log: {result.log}, which ends with\n{tail(result.log)}")


# Before each function that the pass has seen (PREFIX_MAGIC of runtime/abi).
MAGIC = (0x01f4c36e66454d41).to_bytes(8, "little") + bytes(8)


def check_instrumented(result):
    """The sets promise that all functions of these names have barriers: a call does not look."""
    segments = [line.split() for line in output(["readelf", "-lW", result.python]).splitlines()
                if line.strip().startswith("LOAD")]
    segments = [[int(word, 16) for word in (words[1], words[2], words[4])] for words in segments]
    image = result.python.read_bytes()
    without = []
    for line in output(["nm", "--defined-only", result.python]).splitlines():
        address, kind, name = line.split()
        # The two of the trampoline are assembly, of which CPython makes copies; nobody calls it there.
        if kind not in "TW" or not name.startswith(("Py", "_Py", "pyame_")) or name.startswith("_Py_trampoline_func_"):
            continue
        at = next(int(address, 16) - start + offset for offset, start, size in segments
                  if start <= int(address, 16) < start + size)
        if image[at - len(MAGIC):at] != MAGIC:
            without.append(name)
    if without:
        raise Failure(f"{len(without)} functions of {result.python} have no barriers, but {SET} says so "
                      f"(`instrumented`): {' '.join(without[:10])}")


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
