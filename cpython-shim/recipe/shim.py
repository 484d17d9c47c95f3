"""The shim's object files, and the interpreter linked with them."""

import re

from .run import clean_env, logged
from .toolchain import CLANG, SHIM, annotations

# What transactions must see as they see CPython's own code, or be told about; the others are plain code.
INSTRUMENTED = ("track.c", "module.c", "young.c", "keys.c", "memory.c", "buffers.c", "reads.c")
# Has CPython's collector in it, of which the interpreter has another copy; what is seen of it.
YOUNG = "young.o"
YOUNG_SYMBOLS = ("pyame_find_garbage", "pyame_free_garbage")
# Functions of CPython's collector that extensions of any compiler call: the shim has those of these names.
RENAMED = ("PyGC_Collect", "PyUnstable_GC_VisitObjects")
# Sets of a few files, beside those of all.
OWN_SETS = {
    ("buffers",): ("Modules/_io/stringio.o", "Modules/_io/textio.o", "Modules/_pickle.o", "Modules/_elementtree.o"),
    ("buffers", "results", "bytesio"): ("Modules/_io/bytesio.o",),
    ("results",): ("Modules/itertoolsmodule.o", "Python/bltinmodule.o"),
    ("frames",): ("Objects/frameobject.o",),
    ("generators",): ("Objects/genobject.o",),
    ("interned",): ("Objects/unicodeobject.o",),
    ("hashes",): ("Objects/memoryobject.o",),
    ("hashes", "modules"): ("Python/import.o",),
    ("tokens",): ("Python/Python-tokenize.o",),
    ("modules",): ("Objects/moduleobject.o",),
}
FLAGS = ("-O3", "-g", "-fwrapv", "-DNDEBUG", "-std=c11", "-D_GNU_SOURCE", "-fPIC", "-Wall")


def build(result, compiler, jobs, make):
    """Compiles the shim, and the files of CPython that are compiled in another way than the rest: the evaluation loop and
    some others, which have sets of their own, and the collector. Returns the words for make that link the
    interpreter with it."""
    home, tree = compiler.home, result.tree
    objects = result.folder / "shim"
    objects.mkdir(exist_ok=True)
    folders = (tree, tree / "Include", tree / "Include/internal", tree / "Include/internal/mimalloc",
               home / "annotations/include", home / "runtime/include")
    made = []
    for path in sorted((home / SHIM / "src").glob("*.c")):
        cc = compiler.cc.split() if path.name in INSTRUMENTED else [CLANG]
        made.append(objects / f"{path.stem}.o")
        logged([*cc, *FLAGS, *(f"-I{folder}" for folder in folders), "-c", path, "-o", made[-1]],
               result.log, env=clean_env(), what=f"compiling {path}")
    logged(["objcopy", *(f"--keep-global-symbol={name}" for name in YOUNG_SYMBOLS), objects / YOUNG], result.log, env=clean_env(),
           what="hiding the symbols of the collector's copy")
    linked = objects / "shim.o"
    logged(["ld", "-r", *made, "-o", linked], result.log, env=clean_env(), what="linking the shim")

    (tree / "Lib/ame.py").write_bytes((home / SHIM / "python/ame.py").read_bytes())
    # make does not know that the interpreter depends on the shim.
    result.python.unlink(missing_ok=True)
    # A loop that clears a part of a frame would become something of which the annotations say nothing.
    loop = (f"{compiler.cc}{annotations(home / SHIM / 'cpython-ame-eval.toml')} "
            f"-fno-builtin-memset -include {home / SHIM / 'src/eval.h'}")
    # These come after -O3, which would take them back.
    scalar = "CFLAGS_NODIST=-fno-vectorize -fno-slp-vectorize"
    make(tree, compiler, result.log, jobs, f"CC={loop}", scalar, "Python/ceval.o")
    renamed = " ".join(f"-D{name}=pyame_original_{name}" for name in RENAMED)
    make(tree, compiler, result.log, jobs, f"CC={compiler.cc} {renamed}", "Python/gc.o")
    for sets, files in OWN_SETS.items():
        own = "".join(annotations(home / SHIM / f"cpython-ame-{name}.toml") for name in sets)
        make(tree, compiler, result.log, jobs, f"CC={compiler.cc}{own}", *files)
    libraries = re.search(r"^LIBS=(.*)$", (tree / "Makefile").read_text(), re.M).group(1).strip()
    return [f"LIBS={libraries} {linked}"]
