"""What a transaction has made and hands to a thread that it starts: ame python run tests/cpython/new_threads.py

Was broken: the new thread ran beside the transaction that had started it, and both changed the counts of objects
that the transaction had just made, which are not locked. They were freed while in use.
"""

import _testcapi
import _thread
import os
import sys
import time

ROUNDS = 200


def by_c_code():
    """C code starts a thread that calls the function, and calls it beside that."""
    calls = []

    def call():
        calls.append(_thread.get_ident())

    _testcapi._test_thread_state(call)
    return calls.count(_thread.get_ident()) == 3


def by_python():
    """The new thread takes and drops references beside the one that has made the objects: none is lost."""
    made = [object() for _ in range(20)]
    before = counts(made)

    def use(*objects):
        for _ in range(20):
            list(objects)

    for _ in range(3):
        _thread.start_new_thread(use, tuple(made))
        for _ in range(20):
            list(made)
    end = time.monotonic() + 5
    while counts(made) != before:
        if time.monotonic() > end:
            return False
        time.sleep(0.001)
    return True


def counts(objects):
    return [sys.getrefcount(thing) for thing in objects]


def main():
    if os.environ.get("AME_ALWAYS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv],
                  dict(os.environ, AME_ALWAYS="1", AME_CHAOS="1,0.001"))
    failed = sum(not case() for _ in range(ROUNDS) for case in (by_c_code, by_python))
    print(f"new threads: {2 * ROUNDS - failed} passed, {failed} failed")
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
