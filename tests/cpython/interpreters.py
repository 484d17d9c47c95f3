"""Several interpreters in one process: ame python run tests/cpython/interpreters.py

Each collects its own objects, whichever thread has made them and wherever that has been since. Names of cases as
arguments run only these, in this process.
"""

import _interpreters
import gc
import sys
import weakref

import cases

SECONDS = 30


class Cycle:
    interpreters = []

    def __init__(self):
        self.me = self

    def __del__(self):
        Cycle.interpreters.append(_interpreters.get_current()[0])


def elsewhere(code):
    """Runs code in an interpreter of its own, which is gone after it."""
    interpreter = _interpreters.create()
    try:
        error = _interpreters.exec(interpreter, code)
        assert error is None, error
    finally:
        _interpreters.destroy(interpreter)


def outlives_another():
    """What was there before the other interpreter can be collected after its end."""
    for _ in range(5):
        cycles = [Cycle() for _ in range(100)]
        seen = [weakref.ref(cycle) for cycle in cycles]
        elsewhere("things = [[] for _ in range(5000)]")
        del cycles
        gc.collect()
        assert not any(ref() for ref in seen)


def not_collected_elsewhere():
    """The garbage of an interpreter is not finalized in another one."""
    main = _interpreters.get_current()[0]
    Cycle.interpreters.clear()
    gc.disable()
    for _ in range(5):
        for _ in range(100):
            Cycle()
        elsewhere("import gc; gc.collect(); things = [[[]] for _ in range(5000)]; gc.collect()")
    assert not Cycle.interpreters
    gc.collect()
    gc.enable()
    assert Cycle.interpreters == [main] * 500


def knows_its_own():
    """gc.get_objects() has the interpreter's objects, all of them."""
    marker = ["a list of the main interpreter"]
    elsewhere("import gc; assert not any(type(o) is list and len(o) == 1 and "
              "o[0] == 'a list of the main interpreter' for o in gc.get_objects())")
    assert any(o is marker for o in gc.get_objects())


def runs_code_at_its_end():
    """Finalizers that run when the collector of their interpreter has ended already."""
    for _ in range(5):
        elsewhere("""if True:
            import builtins, gc, os, sys
            class Last:
                def __init__(self, *ignored):
                    self.things = []
                def __del__(self, write=os.write):
                    write(2, b"")
                    for _ in range(5000):
                        self.things.append([])
            gc.garbage.append(Last())
            gc.callbacks.append(Last().__init__)
            sys.last, builtins.last = Last(), Last()
        """)
        keep = [[] for _ in range(5000)]
        gc.collect()
        del keep


def in_threads():
    """The same, in threads that run beside each other."""

    def work():
        for _ in range(3):
            cycle = Cycle()
            seen.append(weakref.ref(cycle))
            del cycle
            elsewhere("import gc; x = []; x.append(x); del x; gc.collect()")

    seen = []
    cases.in_threads(4, work)
    gc.collect()
    assert len(seen) == 12 and not any(ref() for ref in seen)


CASES = [outlives_another, not_collected_elsewhere, knows_its_own, runs_code_at_its_end, in_threads]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}))
