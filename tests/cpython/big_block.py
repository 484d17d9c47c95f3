"""An atomic block that takes a second and allocates 500 MB commits beside a running thread; one that is rolled
back leaves nothing behind.

ame python run tests/cpython/big_block.py
"""

import gc
import os
import sys
import threading
import time

import ame

MEGABYTES = 500
PIECE = 64 << 10


def resident():
    """Megabytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Company:
    """A thread that counts until it is told to stop; `count` is what it has committed."""

    def __init__(self):
        self.count = 0
        self.over = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over:
            for _ in range(1000):
                self.count += 1

    def stop(self):
        self.over = True
        self.thread.join()


def fill(seconds):
    """500 MB in pieces, and small objects between them, in no less than so many seconds."""
    start = time.perf_counter()
    pieces = []
    for i in range((MEGABYTES << 20) // PIECE):
        pieces.append((i, bytearray(PIECE), {"number": i}))
        while time.perf_counter() - start < seconds * i * PIECE / (MEGABYTES << 20):
            sum(range(200))
    return pieces


def commits():
    company = Company()
    attempts = []
    start = time.perf_counter()
    with ame.atomic:
        attempts.append(None)  # undone when the block is
        pieces = fill(1.0)
        for i, piece, entry in pieces[::100]:
            piece[0] = i & 255
            entry["number"] += 1
    taken = time.perf_counter() - start
    company.stop()
    assert len(attempts) == 1 and len(pieces) == (MEGABYTES << 20) // PIECE
    assert all(piece[0] == (i & 255 if i % 100 == 0 else 0) for i, piece, entry in pieces)
    assert all(entry["number"] == i + (i % 100 == 0) for i, piece, entry in pieces)
    assert taken >= 1
    assert company.count > 100_000, f"the other thread waited: it came to {company.count}"
    return f"{taken:.2f} s, while another thread counted to {company.count:,}"


def rolled_back():
    """The block meets a lock that somebody holds, so it is rolled back and runs again (cpython-shim/src/blocks.c)."""
    levels = []
    for _ in range(4):
        lock = threading.Lock()
        lock.acquire()
        tries_before = ame.stats()["retries"] + ame.stats()["aborts_conflict"]
        timer = threading.Timer(2.0, lock.release)
        timer.start()
        company = Company()
        with ame.atomic:
            pieces = fill(0.5)
            lock.acquire()
            lock.release()
        company.stop()
        timer.join()
        tries = ame.stats()["retries"] + ame.stats()["aborts_conflict"] - tries_before
        assert len(pieces) == (MEGABYTES << 20) // PIECE
        assert tries > 0, "the block was not rolled back"
        del pieces
        gc.collect()
        levels.append(resident())
    # The allocator keeps some; what leaked would add up.
    assert levels[-1] - levels[0] < MEGABYTES / 2, levels
    return "resident after each, in MB: " + ", ".join(f"{level:.0f}" for level in levels)


def main():
    if not ame.parallel:
        sys.exit("big_block.py is for AME CPython: ame python run tests/cpython/big_block.py")
    failed = 0
    for test in (commits, rolled_back):
        try:
            print(f"{test.__name__}: {test()}")
        except AssertionError as problem:
            failed += 1
            print(f"{test.__name__}: FAILED {problem}")
    print(f"{2 - failed} passed, {failed} failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
