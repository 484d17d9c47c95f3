"""Finalizers that collections run in threads: ame python run tests/cpython/finalizers.py

They may wait, as anywhere else. Names of cases as arguments run only these, in this process.
"""

import gc
import sys
import tempfile
import threading
import time
import weakref

import cases

SECONDS = 60


class Cycle:
    def __init__(self):
        self.me = self


def garbage():
    """Enough for a collection of young objects."""
    return [[] for _ in range(4000)]


def joins_a_thread():
    ended = []

    class Worker(Cycle):
        def __init__(self):
            super().__init__()
            self.stop = threading.Event()
            self.thread = threading.Thread(target=self.stop.wait)
            self.thread.start()

        def __del__(self):
            self.stop.set()
            self.thread.join()
            ended.append(1)

    def make():
        for _ in range(10):
            Worker()
            garbage()

    cases.beside(make, make)
    gc.collect()
    assert len(ended) == 20, len(ended)


def takes_a_lock():
    lock, made, closed = threading.Lock(), [0, 0], [0]

    class Resource(Cycle):
        def __del__(self):
            with lock:
                closed[0] += 1

    def make(me):
        for _ in range(30_000):
            Resource()
            made[me] += 1

    def hold():
        while sum(made) < 60_000:
            with lock:
                time.sleep(0.0005)

    cases.beside(lambda: make(0), lambda: make(1), hold)
    gc.collect()
    assert closed[0] == 60_000, closed


def writes_to_a_shared_file():
    with tempfile.NamedTemporaryFile() as file:
        def make():
            class Line(Cycle):
                def __del__(self):
                    file.write(b"x" * 7 + b"\n")
                    file.flush()

            for _ in range(5000):
                Line()

        cases.beside(make, make)
        gc.collect()
        file.seek(0)
        assert file.read() == b"xxxxxxx\n" * 10_000


def calls_back():
    """Of a weak reference, and finalizers of older objects that only garbage refers to."""
    lock, called, finalized = threading.Lock(), [], []

    class Old:
        def __del__(self):
            with lock:
                finalized.append(1)

    def make():
        for _ in range(200):
            old, keep = Old(), []
            garbage()
            for _ in range(20):
                cycle = Cycle()
                keep.append(weakref.ref(cycle, lambda _: (lock.acquire(), called.append(1), lock.release())))
            cycle.old = old
            del cycle, old
            garbage()
            gc.collect(0)

    cases.beside(make, make)
    gc.collect()
    assert len(finalized) == 400, len(finalized)


CASES = [joins_a_thread, takes_a_lock, writes_to_a_shared_file, calls_back]


def main():
    unraisable = []
    sys.unraisablehook = lambda error: unraisable.append(repr(error.exc_value))
    code = cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}, {"AME_ALWAYS": "1", "AME_CHAOS": "1,0.0005"})
    assert not unraisable, (len(unraisable), unraisable[:3])
    return code


if __name__ == "__main__":
    sys.exit(main())
