"""A C extension that was written for the GIL, used from several threads of Python without one.

    ame ext build lru-dict==1.4.1
    ame python run --free-threaded examples/extension.py [THREADS]

The extension is unmodified: a C linked list and a dictionary, no lock. `ame ext check lru-dict==1.4.1` says what in it
relies on a GIL. Parts that begin with `# %%` are cells for those who read this as a notebook.
"""

# %% The import leaves the GIL off. Compiled without Ame, it would turn it on again, for the whole process.
import sys
import threading
import time

from lru import LRU

THREADS = int(sys.argv[1]) if len(sys.argv) > 1 else 2
print(f"Python {sys.version.split()[0]}, GIL on: {getattr(sys, '_is_gil_enabled', lambda: True)()}")


def in_threads(function, count=THREADS):
    """Seconds that it takes to run function(0), ... in so many threads."""
    threads = [threading.Thread(target=function, args=(me,)) for me in range(count)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


# %% One cache, all threads: what the extension counts in C is exact, and nothing gets lost.
LOOKUPS = 100_000
cache = LRU(1000)
for key in range(1000):
    cache[key] = str(key)


def look_up(me):
    for i in range(LOOKUPS):
        key = (i * 7 + me) % 1500
        assert cache.get(key) in (None, str(key))


took = in_threads(look_up)
hits, misses = cache.get_stats()
print(f"{THREADS} threads, {hits + misses:,} look-ups in {took:.2f} s, hits and misses add up: "
      f"{hits + misses == THREADS * LOOKUPS}")


# %% Evicted pairs go to a callback in Python. While it runs others may enter, as under a GIL.
evicted = []
small = LRU(10, callback=lambda key, value: evicted.append(key))


def fill(me):
    for i in range(20_000):
        small[me, i] = i


in_threads(fill)
keys = evicted + small.keys()
print(f"{len(keys):,} keys were put in, each is inside or was evicted once: "
      f"{len(set(keys)) == len(keys) == THREADS * 20_000}")


# %% Python code runs in parallel, the cache in the middle of it: each thread memoises what it computes.
def collatz(n):
    steps = 0
    while n != 1:
        n = 3 * n + 1 if n & 1 else n // 2
        steps += 1
    return steps


def search(numbers, known):
    for n in numbers:
        if known.get(n) is None:
            known[n] = collatz(n)


NUMBERS = range(1, 60_000)
alone = in_threads(lambda me: search(NUMBERS, LRU(100_000)), 1)
shared = LRU(100_000)
together = in_threads(lambda me: search(NUMBERS[me::THREADS], shared))
print(f"one thread {alone:.2f} s, {THREADS} threads {together:.2f} s: {alone / together:.1f} times as fast")
assert len(shared) == len(NUMBERS) and all(shared[n] == collatz(n) for n in range(1, 1000))
