"""When garbage is collected: ame python run tests/cpython/collector.py

As often as the thresholds say, whatever else asks for the collector's lists. Names of cases as arguments run only
these, in this process.
"""

import ctypes
import gc
import subprocess
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


def each_object_is_in_one_list():
    """Also after collections of each generation, when objects change hands, and when their thread has ended."""
    gc.set_threshold(THRESHOLD, 10, 10)
    kept, lock = [], threading.Lock()

    def work():
        for i in range(40):
            mine = [[] for _ in range(50)] + [Cycle() for _ in range(5)]
            with lock:
                kept.extend(mine)
                del kept[i % 7::11]
            if i % 10 == 9:
                gc.collect(i // 10 % 3)

    for _ in range(4):
        cases.in_threads(3, work)
        looks = [gc.get_objects()] + [gc.get_objects(generation=i) for i in range(3)]
        for ids in [id(o) for o in looks[0]], [id(o) for look in looks[1:] for o in look]:
            assert len(set(ids)) == len(ids), "twice in the lists"
            assert {id(o) for o in kept} <= set(ids), "in no list"
        del looks
    kept.clear()
    gc.collect()
    assert Cycle.alive == 0, Cycle.alive


def callbacks_may_look():
    """A look at the objects from inside of a collection does not take them from it."""
    def look(phase, info):
        gc.get_objects()
        gc.collect()

    gc.callbacks.append(look)
    for generation in range(3):
        for _ in range(100):
            Cycle()
        gc.collect(generation)
        # One may have become old before, with CPython, too.
        assert Cycle.alive < 10, (generation, Cycle.alive)
    gc.callbacks.remove(look)


def visits_may_look():
    """A look from inside of PyUnstable_GC_VisitObjects() does not move the lists that it walks through."""
    kept = [[] for _ in range(1000)]
    known = {id(o) for o in kept}
    seen = []

    @ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
    def visit(o, _):
        seen.append(id(o))
        if len(seen) % 5000 == 1:
            gc.get_objects()
        return 1

    ctypes.pythonapi.PyUnstable_GC_VisitObjects(visit, None)
    assert known <= set(seen), len(seen)
    assert len(seen) == len(set(seen)), len(seen) - len(set(seen))


def collections_are_called_by_name():
    """PyGC_Collect() collects also for code of another compiler, which finds it by its name."""
    gc.collect()
    gc.disable()
    before = Cycle.alive
    for _ in range(1000):
        Cycle()
    gc.get_objects()
    gc.enable()
    found = ctypes.pythonapi.PyGC_Collect()
    assert found >= 1000 and Cycle.alive == before, (found, Cycle.alive)


def all_generations_are_counted():
    """gc.DEBUG_STATS prints how many objects each generation has, also those that are not collected."""
    program = "import gc; gc.collect(); gc.set_debug(gc.DEBUG_STATS); gc.collect(0); gc.set_debug(0)"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, check=True)
    line, = [line for line in done.stderr.splitlines() if "objects in each generation" in line]
    assert int(line.split()[-1]) > 1000, line


def neighbours_are_of_one_thread():
    """Threads that free what each of them has made do not write to what the other one has."""
    import ame

    repeats, rounds, step = 6, 20, threading.Barrier(3)

    def work():
        made = []
        for _ in range(repeats):
            for _ in range(rounds):
                made += [[] for _ in range(1000)]
                step.wait()
                step.wait()
            with ame.atomic:
                made.clear()
                for _ in range(200_000):
                    pass

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(repeats * rounds):
        step.wait()
        gc.collect(i % 2 + 1)
        step.wait()
    for thread in threads:
        thread.join()
    links = [c for c in ame.conflicts()
             if c.object and c.object.type == "list" and c.object.part == "links of the garbage collector"]
    # With one list for all it is nearly one each time: who meets the other waits until that has freed everything.
    assert sum(c.count for c in links) < repeats // 2, links


CASES = [looks_delay_nothing, beside_others, frozen_begins_anew, each_object_is_in_one_list,
         callbacks_may_look, visits_may_look,
         collections_are_called_by_name, all_generations_are_counted, neighbours_are_of_one_thread]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}))
