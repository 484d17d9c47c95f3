"""What runs in the interpreter under test: cases.py NAME...; without names all: those for AME_ELIDE=always, or
those that look at when entries are transactions.

Entries of undo.c are transactions, some of which are rolled back (AME_CHAOS): nothing may be left of those. Each
case says which entries must have been some; otherwise it would test nothing.
"""

import ctypes
import gc
import os
import sys
import threading
import time

import undo

ROUNDS = int(os.environ.get("ROUNDS", 2000))
THREADS = 3
CHAOS = bool(os.environ.get("AME_CHAOS"))

sys.setswitchinterval(1e-4)
runtime = ctypes.CDLL("libame_rt.so")
runtime.ame_domain_open.restype = ctypes.c_void_p
runtime.ame_domain_open.argtypes = [ctypes.c_char_p]
runtime.ame_elision_counts.argtypes = [ctypes.c_void_p, ctypes.c_void_p]


class Reason(ctypes.Structure):
    _fields_ = [("entry", ctypes.c_char_p), ("why", ctypes.c_char_p), ("count", ctypes.c_uint64)]


def statistics():
    """Entries that were elided, serialised, rolled back; trials, and how many transactions have won."""
    counts = (ctypes.c_uint64 * 5)()
    runtime.ame_elision_counts(runtime.ame_domain_open(b"undo"), counts)
    return list(counts)


def reasons():
    runtime.ame_elision_reasons.restype = ctypes.c_size_t
    runtime.ame_elision_reasons.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    found = (Reason * 100)()
    n = runtime.ame_elision_reasons(runtime.ame_domain_open(b"undo"), found, len(found))
    return {(each.entry.decode(), each.why.decode()): each.count for each in found[:n]}


class Elided:
    """Entries in here are transactions, and some of them are rolled back."""

    def __enter__(self):
        self.before = statistics()

    def __exit__(self, *error):
        elided, _, rolled_back = [now - then for now, then in zip(statistics(), self.before)][:3]
        if error[0] is None:
            assert elided > ROUNDS // 20, f"only {elided} entries were transactions"
            assert not CHAOS or rolled_back > ROUNDS // 100, f"only {rolled_back} were rolled back"


def together(function):
    failed = []

    def run(i):
        try:
            function(i)
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


class Plain:
    def __init__(self, value):
        self.value = value


class Computed:
    @property
    def value(self):
        return undo.compare()


def case_counts():
    shared = Plain(1)
    with Elided():
        together(lambda i: [undo.counts(shared) for _ in range(ROUNDS // 4)])
        mine = Plain(2)
        for _ in range(ROUNDS):
            undo.counts(mine)
    assert sys.getrefcount(shared) == 2, sys.getrefcount(shared)
    assert sys.getrefcount(mine) == 2, sys.getrefcount(mine)
    assert undo.compare()


def case_what_is_kept_and_let_go():
    gone = []

    class Noted:
        def __del__(self):
            # In the middle of another entry this would be seen.
            assert undo.compare()
            gone.append(1)
    with Elided():
        for _ in range(ROUNDS):
            undo.swap(Noted())
    undo.swap(None)
    assert len(gone) == ROUNDS, f"{len(gone)} of {ROUNDS} objects were freed"


def case_new_objects():
    def make():
        for _ in range(ROUNDS // 4):
            items, n = undo.makes(5)
            assert n == 5.0 and items == [(1000 + i, "text") for i in range(5)], (items, n)
    make()
    gc.collect()
    before = sys.getallocatedblocks()
    with Elided():
        for _ in range(4):
            make()
        gc.collect()
        grown = sys.getallocatedblocks() - before
    assert grown < ROUNDS // 4, f"{grown} blocks are left"


def case_errors():
    with Elided():
        for i in range(ROUNDS):
            try:
                undo.fails(i)
                raised = None
            except ValueError as error:
                raised = str(error)
            assert raised == ("odd" if i % 2 else None), (i, raised)
    assert undo.compare()

    def look(i):
        for _ in range(ROUNDS):
            if i:
                undo.flips()
                continue
            try:
                undo.fails_by_flag()
            except ValueError:
                pass
    with Elided():
        together(look)


def case_memory():
    def use():
        for i in range(ROUNDS // 4):
            assert undo.memory(i % 40) == i % 40 + 23
            assert undo.keeps() == 7
    use()
    before, blocks = undo.in_use(), sys.getallocatedblocks()
    with Elided():
        for _ in range(4):
            use()
        together(lambda i: use())
    grown = sys.getallocatedblocks() - blocks
    assert grown < ROUNDS // 4, f"{grown} blocks are left"
    grown = undo.in_use() - before
    assert grown < 64 * ROUNDS // 4, f"{grown} bytes are left"


def case_arguments():
    running = []

    class Number:
        def __index__(self):
            # Were this a part of the outer entry's transaction, a rollback would forget these frames.
            running.append(1)
            undo.counts(None)
            running.pop()
            return 7
    with Elided():
        for i in range(ROUNDS):
            assert undo.arguments(None, i) == (None, i, "none")
            assert undo.arguments("a", i, "text") == ("a", i, "text")
    for _ in range(ROUNDS // 10):
        assert undo.arguments(1, Number()) == (1, 7, "none")
        try:
            undo.arguments(1, "x")
            raise AssertionError("no TypeError")
        except TypeError:
            pass
    assert not running


def case_results():
    data, text = bytes([1, 2, 3] * 10), bytes([200]) + b"x"
    undo.results(data, 0)
    with Elided():
        for i in range(1, 3 * ROUNDS):
            if i % 3:
                assert undo.results(data, i) == (60, i - 1, i, 0), i
            else:
                assert undo.results(text, number=i, text="abc") == (320, i - 1, i, 3), i
                undo.results(data, i, "")
    assert sys.getrefcount(data) == 2 and sys.getrefcount(text) == 2
    # Another thread may write to it meanwhile, which lends it in another way.
    for i in range(ROUNDS // 10):
        memory = bytearray(data)
        assert undo.results(memory, 0)[0] == 60
        memory.append(1)


def case_dictionaries():
    numbers = {str(i): 1000 + i for i in range(20)}
    with Elided():
        for _ in range(ROUNDS // 4):
            assert undo.sums(numbers) == 20190
    assert all(sys.getrefcount(n) == 3 for n in numbers.values()), [sys.getrefcount(n) for n in numbers.values()]


def case_attributes():
    plain = Plain(3)
    with Elided():
        for _ in range(ROUNDS):
            assert undo.attribute(plain) == 3
    assert sys.getrefcount(plain) == 2
    # A property runs Python code, which must find the other half undone or not begun: as with a GIL it does not.
    for _ in range(ROUNDS // 10):
        assert undo.attribute(Computed()) is False
    assert any(entry == "attribute" for entry, _ in reasons())


def case_calls():
    for _ in range(ROUNDS // 4):
        assert undo.calls(undo.compare)
    together(lambda i: [undo.calls(undo.compare) for _ in range(ROUNDS // 10)])
    assert undo.compare()
    assert ("calls", "PyObject_CallNoArgs") in reasons(), reasons()


def case_objects():
    shared = Plain(4)
    with Elided():
        together(lambda i: [undo.Box(shared).content for _ in range(ROUNDS // 4)])
        for _ in range(ROUNDS):
            assert undo.Box(shared).content == (shared, 42)
    gc.collect()
    assert undo.alive() == 0, undo.alive()
    assert sys.getrefcount(shared) == 2, sys.getrefcount(shared)


def case_steps():
    """Readers never see one half of what a writer does."""
    with Elided():
        together(lambda i: [undo.compare() or sys.exit("halves differ") if i else undo.counts(None)
                            for _ in range(ROUNDS)])


def case_attempts():
    """What is cleared after a rollback: the error of an attempt that the next one does not repeat."""
    with Elided():
        for _ in range(ROUNDS):
            try:
                undo.fails_at_times()
            except ValueError:
                pass


def case_statistics():
    """`ame.stats()` says what the runtime does."""
    import ame
    undo.calls(undo.compare)
    domain = ame.stats()["domains"]["undo"]
    assert [domain[name] for name in ("elided", "serialised", "rolled_back", "trials", "won")] == statistics()
    assert domain["entries"] >= domain["serialised"] > 0, domain
    assert {(entry, why): count for entry, why, count in domain["reasons"]} == reasons()


def adaptive_alone():
    """One thread holds the domain: that is faster."""
    for _ in range(ROUNDS):
        undo.counts(None)
    assert statistics()[0] == 0, statistics()


def adaptive_together():
    """Where threads want the domain at the same time, it is tried which way is faster."""
    def work(i):
        end = time.monotonic() + 20
        while statistics()[3] < 2:
            assert time.monotonic() < end, f"no trials: {statistics()}"
            undo.works(1000)
    together(work)
    elided, _, _, trials, won = statistics()
    assert elided > 0 and won <= trials, statistics()
    # Nobody waits any more: after the last result has counted for long enough the domain is held.
    end = time.monotonic() + 20
    while True:
        before = statistics()[0]
        for _ in range(100):
            undo.works(100)
        if statistics()[0] == before:
            break
        assert time.monotonic() < end, statistics()


ALWAYS = os.environ.get("AME_ELIDE") == "always"
CASES = {name.split("_", 1)[1]: function for name, function in list(globals().items())
         if name.startswith("case_" if ALWAYS else "adaptive_")}


def main(names):
    for name in names or CASES:
        CASES[name]()
        print(f"{name} ok", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
