"""What runs in the interpreter under test: cases.py NAME...; without names all.

The modules probe_multi, probe_single, ring_a, ring_b and ring_c are compiled from probe.c and ring.c. Each case
hammers them with several threads, and compares their counters, which nothing but a GIL makes exact.
"""

import contextlib
import gc
import os
import queue
import sys
import threading
import time
import weakref

THREADS = 4
#: Rounds of each thread.
ROUNDS = int(os.environ.get("ROUNDS", 10000))
#: Entries may be transactions, and so at the same time.
ELIDED = "AME_ELIDE" in os.environ

sys.setswitchinterval(1e-4)


def together(*functions, threads=THREADS):
    """Runs each function in turn in so many threads; an exception of any is raised."""
    failed = []
    start = threading.Barrier(threads)

    def run(i):
        try:
            start.wait()
            functions[i % len(functions)](i)
        except BaseException as error:
            failed.append(error)

    all_threads = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join()
    if failed:
        raise failed[0]


def beside_the_collector(work):
    """Runs it in all threads but one, which collects until they are done.

    It lets others run in between: a collector that stops them again at once leaves free-threaded CPython no
    time, with or without extensions.
    """
    left = list(range(THREADS - 1))

    def collect(i):
        while left:
            gc.collect()
            time.sleep(1e-5)

    def works(i):
        try:
            work(i)
        finally:
            left.pop()
    together(collect, *[works] * (THREADS - 1))


class Exact:
    """The counter of a module grows by so much."""

    def __init__(self, module, by):
        self.module, self.by = module, by

    def __enter__(self):
        self.before = self.module.counts()

    def __exit__(self, *error):
        gc.collect()
        after = self.module.counts()
        if error[0] is None:
            grown = after[0] - self.before[0]
            assert grown == self.by, f"{grown} entries were counted, {self.by} were made"
            assert after[1:] == self.before[1:], f"objects and exports: {self.before[1:]}, now {after[1:]}"


def modules():
    import probe_multi
    import probe_single
    return probe_multi, probe_single


def case_imports_keep_the_gil_away():
    """No warning either: python -W error."""
    before = getattr(sys, "_is_gil_enabled", lambda: True)()
    import ring_a, ring_b, ring_c  # noqa: E401, F401
    modules()
    assert getattr(sys, "_is_gil_enabled", lambda: True)() == before


def case_functions():
    for module in modules():
        with Exact(module, THREADS * ROUNDS * 200):
            together(lambda i: [module.bump(200) for _ in range(ROUNDS)])


def case_calls_out_and_back():
    for module in modules():
        with Exact(module, THREADS * ROUNDS * 5):
            together(lambda i: [module.call(lambda: module.call(lambda: module.bump(1))) for _ in range(ROUNDS)])


def case_steps_around_a_dictionary():
    """In both: one of its own and one that all threads change."""
    for module in modules():
        shared = {}
        together(lambda i: [module.step({}, f"key{i}") for _ in range(ROUNDS)])
        together(lambda i: [module.step(shared, f"key{i}") for _ in range(ROUNDS)])


def case_steps_that_wait_for_the_interpreter():
    """Others copy the dictionary, for milliseconds, under a lock of the interpreter's. A GIL would stay."""
    for module in modules():
        shared = dict.fromkeys(map(str, range(500000)))
        stop = threading.Event()

        def copy(i):
            while not stop.is_set():
                shared.copy()

        def work(i):
            try:
                for _ in range(ROUNDS // 50):
                    module.step(shared, f"key{i}")
            finally:
                stop.set()
        together(copy, work, work)


def case_callbacks_and_capsules():
    one, other = modules()
    capsule = other.export()
    before = one.counts()[0]
    with Exact(other, THREADS * ROUNDS * 7):
        together(lambda i: [one.use(capsule, 7) for _ in range(ROUNDS)])
    assert one.counts()[0] - before == THREADS * ROUNDS * 2
    before = one.counts()[0]
    assert one.sorted_sum() == 123
    each = one.counts()[0] - before
    with Exact(one, THREADS * ROUNDS * each):
        together(lambda i: [one.sorted_sum() for _ in range(ROUNDS)])


def case_slots_of_static_types():
    for module in modules():
        def work(i):
            for _ in range(ROUNDS):
                one, other = module.Item(i), module.Item(i + 1)
                hash(one)
                assert one != other
                assert one + other == 2 * i + 1
                assert len(one) == 3
                assert one["key"] == "key"
                assert list(one) == [1, 2, 3]   # and asks for the length
                one()
        with Exact(module, THREADS * ROUNDS * 11):
            together(work)


def case_one_thread_alone_and_then_others():
    """A domain that one thread has used alone stays with it until others come."""
    for module in modules():
        turn = threading.Barrier(THREADS)

        def work(i):
            for each in range(ROUNDS // 500):
                if i == each % THREADS:
                    for _ in range(2000):
                        module.bump(1)
                    # It still goes on when the others come.
                    turn.wait()
                    for _ in range(2000):
                        module.bump(1)
                else:
                    turn.wait()
                    for _ in range(20):
                        module.bump(1)
        with Exact(module, ROUNDS // 500 * (4000 + 20 * (THREADS - 1))):
            together(work)


def case_heap_types_buffers_and_finalizers():
    for module in modules():
        class Final:
            def __del__(self):
                module.bump(1)

        box = module.Box()

        def work(i):
            for _ in range(ROUNDS):
                box.content = Final()       # one, and one when it dies
                box.content                 # one
                with memoryview(box):       # one
                    pass
                inner = module.Box(module.Box(Final()))     # one, in its dealloc
                del inner
        with Exact(module, THREADS * ROUNDS * 5 + 1):
            together(work)
            box.content = None
        del box


def case_collections():
    """The collector traverses boxes while threads are in the domain, and waits to get into it."""
    for module in modules():
        def work(i):
            for _ in range(ROUNDS):
                one, other = module.Box(), module.Box()
                one.content, other.content = other, one
                module.bump(200)
        keep = [module.Box([module.Box()]) for _ in range(1000)]
        with Exact(module, (THREADS - 1) * ROUNDS * 202):
            beside_the_collector(work)
        del keep


def case_deallocators_beside_the_collector():
    """An object whose deallocator waits for the domain has no references, and is no garbage yet."""
    for module in modules():
        def work(i):
            for _ in range(ROUNDS // 100):
                boxes = [module.Box() for _ in range(5)]
                module.bump(20000)
                del boxes
        with Exact(module, (THREADS - 1) * (ROUNDS // 100) * 20000):
            beside_the_collector(work)


def case_allow_threads():
    for module in modules():
        start = time.monotonic()
        with Exact(module, THREADS * 2):
            together(lambda i: module.doze(300))
        assert time.monotonic() - start < 0.3 * THREADS * 0.8, "threads slept one after the other"

        start = time.monotonic()
        together(lambda i: module.work(50))
        assert ELIDED or time.monotonic() - start >= 0.05 * THREADS, "threads worked at the same time"


def case_own_threads():
    for module in modules():
        # Thread states are made and freed in each round.
        rounds = ROUNDS // 20
        with Exact(module, THREADS * rounds * 80):
            together(lambda i: (module.thread(rounds), [module.bump(40) for _ in range(rounds)]))


def others_get_in_beside_python(module, alone):
    """While a thread waits in Python code that it has called, after so many entries of its own."""
    inside, leave = threading.Event(), threading.Event()

    def waits(i):
        for _ in range(alone):
            module.bump(1)
        module.call(lambda: (inside.set(), leave.wait(20)))
        for _ in range(alone):
            module.bump(1)

    def comes(i):
        inside.wait()
        start = time.monotonic()
        module.bump(1)
        assert time.monotonic() - start < 5, "it waited for a thread that waits in Python code"
        leave.set()
    with Exact(module, 2 * alone + 3):
        together(waits, comes, threads=2)


def case_blocked_in_a_call():
    """A thread waits in Python code that it has called; others get in."""
    for module in modules():
        others_get_in_beside_python(module, 0)


def case_blocked_with_a_bias():
    """The same where the thread has had the domain alone for so long that it lends it by its own word only; and others come
    while it lends and claims it back all the time."""
    for module in modules():
        others_get_in_beside_python(module, 5000)
        rounds = ROUNDS // 50

        def lends(i):
            for _ in range(rounds):
                for _ in range(2000):
                    module.bump(1)
                for _ in range(100):
                    module.call(lambda: None)

        def comes_by(i):
            for _ in range(rounds):
                time.sleep(0.0005)
                module.bump(1)
        with Exact(module, rounds * 2000 + 2 * rounds * 100 + rounds):
            together(lends, comes_by, threads=2)


def others_get_in(module, call, started, end):
    """While one thread is in `call`, which says when it begins, and waits until somebody calls `end`."""
    def comes(i):
        started.wait()
        time.sleep(0.01)
        late = threading.Timer(5, end)
        late.start()
        module.bump(1)
        assert late.is_alive(), f"it waited for a thread that waits in {call}"
        late.cancel()
        end()
    together(lambda i: call(), comes, threads=2)


def case_blocked_in_a_builtin():
    """The same where it waits without Python code: for a lock, and in CPython's own list of waiters."""
    for module in modules():
        lock, items = threading.Lock(), queue.SimpleQueue()
        lock.acquire()
        for wait, end in (lock.acquire, lock.release), (items.get, lambda: items.put(1)):
            started = threading.Event()
            with Exact(module, 3):
                others_get_in(module, lambda: (started.set(), module.call(wait)), started, end)


def case_blocked_by_an_argument():
    """Calls that run Python code for some arguments only: then others get in."""
    started, leave = threading.Event(), threading.Event()

    def block():
        started.set()
        leave.wait(20)

    class Argument:
        def __hash__(self):
            block()
            return 1

        def __index__(self):
            block()
            return 0

    class Last:
        def __del__(self):
            block()

    def fail():
        raise ValueError(Last())

    for module in modules():
        for call in (lambda: module.get({}, Argument()), lambda: module.get([1], Argument()),
                     lambda: module.get_by_slot({}, Argument()), lambda: module.number(Argument()),
                     lambda: module.forget(fail)):
            def run():
                with contextlib.suppress(KeyError):
                    call()
            started.clear()
            leave.clear()
            with Exact(module, 1):
                others_get_in(module, run, started, leave.set)


def case_busy_in_a_call():
    """The same where that thread does not wait, but computes."""
    for module in modules():
        inside, leave = threading.Event(), []

        def computes(i):
            def loop():
                inside.set()
                end = time.monotonic() + 20
                while not leave and time.monotonic() < end:
                    pass
            module.call(loop)

        def comes(i):
            inside.wait()
            start = time.monotonic()
            module.bump(1)
            assert time.monotonic() - start < 5, "it waited for a thread that runs Python code"
            leave.append(1)
        with Exact(module, 3):
            together(computes, comes, threads=2)


def case_borrowed_references():
    for module in modules():
        box = [(i,) for i in range(8)]
        table = {i: (i,) for i in range(8)}
        stop = []

        def change(i):
            n = 0
            while not stop:
                n += 1
                box[n % 8] = (n + 1000,)
                table[n % 8] = (n + 1000,)

        def read(i):
            try:
                for _ in range(ROUNDS // 2):
                    assert module.items(box) == 16
                    assert module.values(table) == 16
            finally:
                stop.append(1)
        together(change, read, threads=4)


def case_weak_references():
    for module in modules():
        place = [weakref.ref(set())]
        stop = []

        class Target:
            pass

        def change(i):
            while not stop:
                target = Target()
                place[0] = weakref.ref(target)
                del target

        def read(i):
            try:
                for _ in range(ROUNDS * 5):
                    assert module.referent(place[0]) == 0
            finally:
                stop.append(1)
        together(change, read, threads=4)


def case_circles():
    """Three extensions call each other, beginning at different ones; by way of Python, and by pointer."""
    import ring_a
    import ring_b
    import ring_c
    rings = [ring_a, ring_b, ring_c]
    capsules = [ring.export() for ring in rings]
    depth = 8

    def visits(i):
        turned = [rings[(i + j) % 3] for j in range(3)]
        functions = tuple(ring.visit for ring in turned)
        for _ in range(ROUNDS):
            functions[0](functions, depth)

    def descends(i):
        turned = [capsules[(i + j) % 3] for j in range(3)]
        for _ in range(ROUNDS):
            rings[i % 3].descend(*turned, depth)
    for function in (visits, descends):
        before = sum(ring.count() for ring in rings)
        together(function)
        grown = sum(ring.count() for ring in rings) - before
        assert grown == THREADS * ROUNDS * 2 * (depth + 1), grown


def case_fork():
    """The child does not inherit what other threads hold."""
    module = modules()[0]
    stop = []

    def work(i):
        while not stop:
            module.bump(200)

    def fork(i):
        try:
            for _ in range(10):
                child = os.fork()
                if child == 0:
                    module.bump(1)
                    os._exit(0)
                end = time.monotonic() + 20
                while os.waitpid(child, os.WNOHANG) == (0, 0):
                    if time.monotonic() > end:
                        os.kill(child, 9)
                        raise AssertionError("the child hangs")
                    time.sleep(0.001)
        finally:
            stop.append(1)
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        together(fork, work)


def beside_changes_of_a_set(function):
    """Runs it while threads wait for a set that another one changes, for a tenth of a second at a time."""
    module = modules()[0]
    shared, more = {1}, set(range(1_000_000))
    stop = threading.Event()

    def change(i):
        while not stop.is_set():
            shared.update(more)
            shared.clear()
            time.sleep(0)

    def ask(i):
        while not stop.is_set():
            for _ in range(100):
                module.contains(shared, 1, i)

    def runs(i):
        try:
            function()
        finally:
            stop.set()
    together(runs, change, ask, ask)


def case_fork_beside_waits_for_objects():
    """A thread that waits in the extension is detached, and the interpreter, which stops all others, does not see it."""
    def fork():
        for _ in range(10):
            time.sleep(0.01)
            child = os.fork()
            if child == 0:
                modules()[0].bump(1)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        beside_changes_of_a_set(fork)


def case_daemons_that_wait_for_objects():
    """The interpreter ends them there."""
    program = """if 1:
        import sys, threading, time
        import probe_multi as module
        shared, more = {1}, set(range(1_000_000))

        def change():
            while True:
                shared.update(more)
                shared.clear()

        def ask(i):
            while True:
                module.contains(shared, 1, i)

        class Late:
            def __del__(self, sleep=time.sleep):
                sleep(0.2)
        sys.late = Late()
        threading.Thread(target=change, daemon=True).start()
        for i in range(3):
            threading.Thread(target=ask, args=[i], daemon=True).start()
        time.sleep(0.1)
    """
    import subprocess
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, b""), (done.returncode, done.stderr)


def case_counts_of_the_domain():
    """By name, as the module's; only where it has one."""
    module = modules()[0]
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        return
    import ame

    def entries():
        counts = ame.stats()["domains"]["probe_multi"]
        return counts["entries"] + counts["elided"]
    before = entries()
    for _ in range(100):
        module.bump(1)
    assert entries() - before == 100


CASES = {name.removeprefix("case_"): function for name, function in list(globals().items())
         if name.startswith("case_")}


def main(names):
    import faulthandler
    for name in names or CASES:
        faulthandler.dump_traceback_later(120, exit=True)
        start = time.monotonic()
        CASES[name]()
        print(f"{name} ok ({time.monotonic() - start:.1f} s)", flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(sys.argv[1:])
