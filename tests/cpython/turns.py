"""Threads that only wait for each other's memory take turns, as with a GIL: no work is lost, nobody starves, and they
run beside each other again when they do something else.
"""

import random
import sys
import threading
import time

import ame
import cases

SECONDS = 60
# For two free processors.
PATIENCE = 40


class Crowd:
    """Threads that draw from one generator until told to stop."""

    def __init__(self, threads):
        self.counts = [0] * threads
        self.stop = False
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self, i):
        n = 0
        while not self.stop:
            drawn = [random.random() for _ in range(4)]
            drawn.sort()
            kept = {x: 1 for x in drawn}
            for x in range(10):
                kept[x] = x
            n += 1
        self.counts[i] = n

    def end(self):
        self.stop = True
        for thread in self.threads:
            thread.join()
        return self.counts


def commits_of(seconds):
    before = ame.stats()["commits"]
    time.sleep(seconds)
    return (ame.stats()["commits"] - before) / seconds


def take_turns():
    """A transaction ends after 256 ms at the latest: where none does for half a second, threads take turns. It takes two
    free processors until they do, and other programs may have these for a while."""
    crowd = Crowd(2)
    end, quiet = time.monotonic() + PATIENCE, 0
    while quiet < 5 and time.monotonic() < end:
        quiet = quiet + 1 if commits_of(0.1) == 0 else 0
    counts = crowd.end()
    assert quiet == 5, counts
    assert min(counts) > max(counts) / 10, counts


def draw_what_one_thread_draws():
    """Each number is drawn once."""
    def work():
        mine = [random.random() for _ in range(300_000)]
        with lock:
            drawn.extend(mine)

    lock, drawn = threading.Lock(), []
    random.seed(1)
    cases.in_threads(3, work)
    random.seed(1)
    assert sorted(drawn) == sorted(random.random() for _ in range(900_000))


def nobody_starves():
    """The main thread, which wakes up from time to time, and blocks that need a transaction."""
    crowd = Crowd(3)
    total, longest = [0], 0.0
    for _ in range(100):
        time.sleep(0.005)
        start = time.monotonic()
        with ame.atomic:
            random.random()
            total[0] += 1
        longest = max(longest, time.monotonic() - start)
    counts = crowd.end()
    assert total == [100] and longest < 1, longest
    assert min(counts) > max(counts) / 10, counts


def locks_in_blocks():
    """A block waits for a lock whose owner waits for its turn."""
    def hold():
        while not done:
            with lock:
                random.random()

    lock, done = threading.Lock(), []
    crowd = Crowd(1)
    holder = threading.Thread(target=hold)
    holder.start()
    start = time.monotonic()
    for _ in range(200):
        with ame.atomic:
            with lock:
                random.random()
    took = time.monotonic() - start
    done.append(True)
    holder.join()
    crowd.end()
    assert took < 30, took


def run_beside_each_other_again():
    def work():
        end = time.monotonic() + 0.3
        n = 0
        while time.monotonic() < end:
            for _ in range(1000):
                n += 1

    crowd = Crowd(2)
    time.sleep(1)
    crowd.end()
    time.sleep(0.2)
    end, used = time.monotonic() + PATIENCE, 0
    while used <= 0.4 and time.monotonic() < end:
        before = time.process_time()
        cases.in_threads(2, work)
        used = time.process_time() - before
    assert used > 0.4, used


CASES = [take_turns, draw_what_one_thread_draws, nobody_starves, locks_in_blocks, run_beside_each_other_again]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}))
