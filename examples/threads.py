"""Looks for large primes in several threads: threads.py [THREADS [CANDIDATES]]

Each thread has candidates of its own, and all put what they find into one list and count in one
dictionary: what is in a `with ame.atomic` block is one step for the others. The threads of AME CPython run
in parallel, those of CPython one after another; what they find is the same. Without Ame, `ame` is a
module with a lock: PYTHONPATH=cpython-shim/python.
"""

import sys
import threading
import time

import ame

START = 1 << 512
BATCH = 100

primes = []
done = {"candidates": 0}


def is_probable_prime(n):
    return all(pow(base, n - 1, n) == 1 for base in (2, 3, 5))


def search(candidates):
    for at in range(0, len(candidates), BATCH):
        batch = candidates[at:at + BATCH]
        found = [i for i in batch if is_probable_prime(START + 2 * i + 1)]
        with ame.atomic:
            primes.extend(found)
            done["candidates"] += len(batch)


def main(threads=2, candidates=4000):
    start = time.perf_counter()
    running = [threading.Thread(target=search, args=(range(i, candidates, threads),))
               for i in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    taken = time.perf_counter() - start
    assert done["candidates"] == candidates
    kind = "in parallel" if ame.parallel else "one at a time"
    print(f"{threads} threads, {kind}: {len(primes)} primes, sum of their places {sum(primes)}, {taken:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
