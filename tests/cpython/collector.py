"""When garbage is collected: ame python run tests/cpython/collector.py

As often as the thresholds say, whatever else asks for the collector's lists. Names of cases as arguments run only
these, in this process.
"""

import gc
import sys
import threading

import cases

SECONDS = 30
THRESHOLD = 500


class Cycle:
    alive = 0

    def __init__(self):
        self.me = self
        Cycle.alive += 1

    def __del__(self):
        Cycle.alive -= 1


def most_alive(number, look):
    """How much garbage there is at most, where so much is made, and looked at once for 50 pieces."""
    most = 0
    for i in range(number):
        Cycle()
        if i % 50 == 0:
            look()
        most = max(most, Cycle.alive)
    return most


def looks_delay_nothing():
    """Counts of allocations survive a look at the objects or the statistics."""
    gc.set_threshold(THRESHOLD, 10, 10)
    for look in (gc.get_stats, gc.get_objects, gc.get_count, lambda: gc.get_referrers(cases)):
        most = most_alive(20 * THRESHOLD, look)
        assert most < 4 * THRESHOLD, (look, most)


def beside_others():
    """The same where a thread collects its own young objects."""
    gc.set_threshold(THRESHOLD, 10, 10)
    done = threading.Event()

    def work():
        while not done.is_set():
            pass

    beside = threading.Thread(target=work)
    beside.start()
    try:
        for look in (gc.get_stats, gc.get_count):
            most = most_alive(20 * THRESHOLD, look)
            assert most < 8 * THRESHOLD, (look, most)
    finally:
        done.set()
        beside.join()


def frozen_begins_anew():
    """gc.freeze() sets the counts to zero, as in CPython."""
    gc.disable()
    gc.set_threshold(THRESHOLD, 10, 10)
    gc.collect()
    keep = [[] for _ in range(THRESHOLD // 2)]
    assert gc.get_count()[0] >= len(keep)
    gc.freeze()
    assert gc.get_count()[0] < len(keep) // 2, gc.get_count()
    gc.unfreeze()


CASES = [looks_delay_nothing, beside_others, frozen_begins_anew]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}))
