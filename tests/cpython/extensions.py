"""Extension modules with and without barriers: ame python run tests/cpython/extensions.py

extension/probe.c is compiled twice, as an extension module is (sysconfig's CC) and by plain clang. Both must
give right results in several threads. The one joins transactions; the other runs alone, and a line on
standard error says so by name, once.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import threading
from pathlib import Path

import ame
import cases

SOURCE = Path(__file__).resolve().parent / "extension/probe.c"
SECONDS = 60
THREADS = 3
#: What each thread does so often.
ROUNDS = 40


def build(folder):
    """Compiles `joined` and `alone` into the folder."""
    flags = ["-O2", "-g", "-fPIC", "-shared", f"-I{sysconfig.get_path('include')}",
             f"-I{sysconfig.get_path('platinclude')}"]
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for name, compiler in (("joined", shlex.split(sysconfig.get_config_var("CC"))),
                           ("alone", [os.environ.get("AME_CLANG", "clang-19")])):
        subprocess.run([*compiler, *flags, f"-DNAME={name}", SOURCE, "-o", Path(folder) / (name + suffix)],
                       check=True)


def together(function, rounds=ROUNDS):
    """Runs it in all threads, and returns how many transactions ran alone meanwhile."""
    failed = []
    start = threading.Barrier(THREADS)

    def work():
        try:
            start.wait()
            for i in range(rounds):
                function(i)
        except BaseException as error:
            failed.append(error)
            raise

    before = ame.stats()["exclusive"]
    cases.in_threads(THREADS, work)
    assert not failed
    return ame.stats()["exclusive"] - before


def check(module, alone):
    """Runs all functions of the module; each call, or part of one between two calls, is a single step."""
    many = 10 * ROUNDS
    exclusive = together(lambda i: module.add(1000), many)
    assert module.count() == THREADS * many * 1000, module.count()
    # Not all: a thread that is the only one for a while needs no transactions.
    assert (exclusive >= many) == alone, exclusive

    seen = []

    def call_back(i):
        seen.append(i)
        return [str(k) for k in range(50)]

    start = module.count()
    together(lambda i: (module.add_and_call(call_back, 10) == 45 or sys.exit("wrong sum")))
    assert module.count() - start == THREADS * ROUNDS * 10 == len(seen), (module.count() - start, len(seen))

    start = module.count()
    expected = [i * 1000 for i in range(10)]
    together(lambda i: (module.add_and_wait(10) == expected or sys.exit("wrong list")))
    assert module.count() - start == THREADS * ROUNDS * 10, module.count() - start

    with ame.atomic:
        now = module.count()
        module.add(1)
        module.add_and_call(call_back, 1)
        assert module.count() == now + 2


def joined():
    import joined
    check(joined, False)


def alone():
    import alone
    check(alone, True)


def both():
    import alone
    import joined

    def mixed(i):
        joined.add_and_call(lambda k: alone.add(1), 3)
        alone.add_and_call(lambda k: joined.add_and_call(alone.add, 2), 3)

    together(mixed)
    total = THREADS * ROUNDS
    assert (joined.count(), alone.count()) == (total * (3 + 6), total * (3 + 3 + 3)), \
        (joined.count(), alone.count())


def imported_twice():
    import alone
    del sys.modules["alone"]
    import alone


CASES = {"joined": 0, "alone": 1, "both": 1, "imported_twice": 1}


def main(arguments):
    if arguments:
        globals()[arguments[0]]()
        return 0
    if not ame.parallel:
        print("extensions: for AME CPython only", file=sys.stderr)
        return 2
    failed = passed = 0
    with tempfile.TemporaryDirectory() as folder:
        build(folder)
        for settings in ({}, {"AME_ALWAYS": "1"}, {"AME_CHAOS": "1,0.001"}, {"AME_WARN": "0"}):
            for case, lines in CASES.items():
                env = dict(os.environ, PYTHONPATH=folder, **settings)
                try:
                    done = subprocess.run([sys.executable, __file__, case], timeout=SECONDS, env=env,
                                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                    code, errors = done.returncode, done.stderr
                except subprocess.TimeoutExpired as error:
                    code, errors = "hangs", str(error.stderr)
                wanted = 0 if "AME_WARN" in settings else lines
                named = errors.count("ame: extension module alone is not compiled with `ame cc`")
                if code == 0 and named == wanted == errors.count("\n"):
                    passed += 1
                else:
                    failed += 1
                    print(f"FAILED: {case} {settings}: {code}\n{errors}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
