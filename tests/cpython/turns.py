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
    """In transactions two of them commit up to 300,000 times in a second, and seldom less than a hundred times; who
    takes turns, never."""
    crowd = Crowd(2)
    rates = [commits_of(0.1) for _ in range(40)]
    counts = crowd.end()
    assert rates.count(0) >= 3, rates
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
    before = time.process_time()
    cases.in_threads(2, work)
    assert time.process_time() - before > 0.4


CASES = [take_turns, draw_what_one_thread_draws, nobody_starves, locks_in_blocks, run_beside_each_other_again]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}))
