"""What runs in the interpreter under test: cases.py NAME...; without names all.

Threads are never asked for the GIL (the switch interval is 1000 s): who gets to run beside another one does because
that has given it up.
"""

import ctypes
import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref

import probe

CHAOS = bool(os.environ.get("AME_CHAOS"))
ROUNDS = int(os.environ.get("ROUNDS", 300))
THREADS = 3
PATIENCE = 20

sys.setswitchinterval(1000)
runtime = ctypes.PyDLL("libame_rt.so")
runtime.ame_domain_open.restype = ctypes.c_void_p
runtime.ame_domain_open.argtypes = [ctypes.c_char_p]
runtime.ame_elision_counts.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
go = ctypes.c_int.from_address(probe.address())


def elided():
    """Entries that were transactions to their end, and those that were rolled back."""
    counts = (ctypes.c_uint64 * 5)()
    runtime.ame_elision_counts(runtime.ame_domain_open(b"probe"), counts)
    return counts[0], counts[2]


def without_gil():
    """Threads in the extension that do not have it; this one has."""
    return runtime.ame_domain_detached(0)


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        # Gives the GIL up once.
        time.sleep(0)


def let_go():
    # They have waited for long, so that it was worth it.
    time.sleep(0.001)
    go.value = 1


def together(*functions):
    """Runs them in threads; raises what they raise."""
    failed = []

    def run(function):
        try:
            function()
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    return threads, failed


def join(threads, failed):
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread does not end"
    if failed:
        raise failed[0]


def case_overlap():
    """Two threads are inside at once, and Python code beside them: neither comes out before that says so."""
    # When threads have met, entries are transactions.
    start = elided()[0]
    for _ in range(100):
        if elided()[0] > start + 4:
            break
        join(*together(lambda: probe.add(20000), lambda: probe.add(20000)))
    go.value = 0
    results = []
    before = elided()[0]
    started = together(*[lambda i=i: results.append(probe.wait_for_go(i)) for i in range(2)])
    until(lambda: without_gil() == 2)
    assert results == []
    let_go()
    join(*started)
    assert sorted(results) == [0, 1]
    assert elided()[0] == before + 2


def case_held():
    """Of an entry that holds the domain Python code runs beside as well; others wait without the GIL."""
    go.value = 0
    started = together(lambda: probe.wait_for_go(1))
    until(lambda: without_gil() == 1)
    others = together(lambda: probe.look(), lambda: probe.add(3))
    time.sleep(0.05)
    assert all(thread.is_alive() for thread in others[0][:1]), "plain code runs beside"
    let_go()
    join(*started)
    join(*others)


def case_serial():
    """Everybody adds to one number, some without the GIL."""
    start = probe.add(0)
    results = []

    def some(add):
        for _ in range(ROUNDS):
            results.append(add(20))
            assert probe.look()
    join(*together(*[lambda: some(probe.add)] * THREADS, lambda: some(probe.add_plain)))
    n = ROUNDS * (THREADS + 1)
    assert sorted(results) == [start + 20 * (i + 1) for i in range(n)]


def case_exceptions():
    def some():
        for i in range(ROUNDS):
            try:
                probe.fails(i)
                raised = None
            except ValueError as error:
                raised = str(error)
            assert raised == ("odd" if i % 2 else None), (i, raised)
            try:
                probe.fails("x")
                raise AssertionError("no TypeError")
            except TypeError:
                pass
    join(*together(some, some))
    assert probe.look()


def case_callbacks():
    """In the middle of an entry Python code runs: it finds whole steps, may enter again, and wait for others."""
    other = threading.Semaphore(0)
    mine = threading.Semaphore(0)

    def back():
        assert probe.look()
        probe.add(5)
        other.release()
        assert mine.acquire(timeout=PATIENCE)
        return probe.add(5)

    def beside():
        for _ in range(ROUNDS // 10):
            assert other.acquire(timeout=PATIENCE)
            probe.add(5)
            assert probe.look()
            mine.release()

    def caller():
        for _ in range(ROUNDS // 10):
            assert isinstance(probe.calls(back), int)
    start = probe.add(0)
    join(*together(caller, beside))
    assert probe.add(0) == start + (100 + 15) * (ROUNDS // 10)

    def raises():
        raise KeyError("from Python")
    for _ in range(20):
        try:
            probe.calls(raises)
            raise AssertionError("no KeyError")
        except KeyError:
            pass


def case_lists():
    """Items whose list changes meanwhile: they are used with the GIL, or belong to who uses them."""
    many = [bytes([i % 256]) * 20 for i in range(200)]
    shared = list(many)
    stop = []

    def change():
        while not stop:
            shared.clear()
            time.sleep(0)
            shared.extend(bytes([i % 256]) * 20 for i in range(200))
            time.sleep(0)

    def use():
        for _ in range(ROUNDS):
            assert probe.items(shared) in (0, 200)
            try:
                assert probe.borrow(shared) == bytes(20)
            except IndexError:
                pass
            time.sleep(0)
        stop.append(1)
    join(*together(change, use))
    counts = {sys.getrefcount(each) for each in shared}
    assert len(counts) == 1, counts


def case_counts():
    one = object()
    bag = probe.Bag()

    def fill():
        for _ in range(ROUNDS // 10):
            bag.fill(one)
    before = sys.getrefcount(one)
    join(*together(fill, fill))
    n = 2 * 8 * (ROUNDS // 10)
    assert bag.fill(None) == n + 8
    assert sys.getrefcount(one) == before + n, (sys.getrefcount(one), before, n)
    del bag
    assert sys.getrefcount(one) == before


def case_made():
    """What a transaction has made and then not been, leaves nothing behind."""
    one = object()
    before = sys.getrefcount(one)

    def make():
        for _ in range(ROUNDS):
            assert probe.repeats(one) == [one] * 8
    join(*together(make, make))
    assert sys.getrefcount(one) == before, (sys.getrefcount(one), before)


def case_collector():
    """Objects that a thread without the GIL changes are left alone, and so is what hangs on them."""
    class Loop:
        pass
    loop = Loop()
    loop.bag = probe.Bag()
    loop.bag.fill(loop)
    gone = weakref.ref(loop)
    waits = probe.Bag()
    waits.fill(waits)
    go.value = 0
    started = together(waits.wait)
    until(lambda: without_gil() == 1)
    del loop
    for _ in range(20):
        gc.collect()
    assert gone() is not None
    let_go()
    join(*started)
    gc.collect()
    assert gone() is None
    del waits
    gc.collect()
    stop = []

    def collect():
        while not stop:
            gc.collect()
            time.sleep(0)

    def fill():
        try:
            for _ in range(ROUNDS // 10):
                bag = probe.Bag()
                bag.fill(bag)
                bag.fill([bag])
        finally:
            stop.append(1)
    before = probe.alive()
    join(*together(collect, fill, fill))
    bag = None
    gc.collect()
    assert probe.alive() == before, (probe.alive(), before)


def case_fork():
    """The child of a fork has whole steps, and goes on."""
    stop = []

    def some():
        while not stop:
            probe.add(50)
    threads = together(some, some)
    warnings.filterwarnings("ignore", ".*multi-threaded.*", DeprecationWarning)
    for i in range(5):
        child = os.fork()
        if child == 0:
            good = False
            try:
                before = probe.add(0)
                good = probe.look() and probe.add(7) == before + 7
            finally:
                os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        if i == 0:
            subprocess.run(["true"], check=True, preexec_fn=lambda: probe.look() or os._exit(3))
    stop.append(1)
    join(*threads)


def case_short():
    """Where there is nothing to gain an entry keeps the GIL, and is no transaction."""
    if os.environ.get("ALWAYS"):
        return
    for _ in range(200):
        probe.add(1)
    before = elided()[0]
    for _ in range(200):
        probe.add(1)
    assert elided()[0] - before < 20, elided()[0] - before


CASES = {name.removeprefix("case_"): function for name, function in list(globals().items())
         if name.startswith("case_")}


def main(names):
    unknown = set(names) - set(CASES)
    if unknown:
        sys.exit(f"there is no case {', '.join(unknown)}; there are: {', '.join(CASES)}")
    for name in names or CASES:
        CASES[name]()
        print(f"{name} ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
