"""What two threads get from one iterator or frame, where C code writes to an object that it believes to have alone: ame python run
tests/cpython/reused.py

Tuples that iterators use again, and frames that have ended. Names of cases as arguments run only these, in this
process.
"""

import functools
import itertools
import sys
import threading

import cases

SECONDS = 60


class Item:
    pass


def by_two(work):
    """What both threads have put into their lists."""
    lists, wrong, begin = ([], []), [], threading.Barrier(2)

    def run(mine):
        begin.wait()
        try:
            work(mine, wrong)
        except BaseException as error:
            wrong.append(repr(error))

    cases.beside(*(functools.partial(run, mine) for mine in lists))
    assert not wrong, (len(wrong), wrong[:3])
    return lists[0] + lists[1]


def look(t, mine, wrong):
    """A tuple stays what it is, also after places where a transaction may end."""
    first = (t[0], t[1])
    for _ in range(30):
        pass
    if (t[0], t[1]) != first:
        wrong.append((first, (t[0], t[1])))
    mine.append(first)


def zips(make=zip):
    n = 2000
    for _ in range(60):
        z = make(range(n), range(n, 2 * n))

        def work(mine, wrong):
            for t in z:
                look(t, mine, wrong)

        assert sorted(by_two(work)) == list(zip(range(n), range(n, 2 * n)))


def longest_zips():
    zips(itertools.zip_longest)


def combinatorics():
    for make in (lambda: itertools.product(range(60), repeat=2), lambda: itertools.combinations(range(60), 2),
                 lambda: itertools.permutations(range(60), 2),
                 lambda: itertools.combinations_with_replacement(range(60), 2)):
        want = sorted(make())
        for _ in range(20):
            it = make()

            def work(mine, wrong):
                while (t := next(it, None)) is not None:
                    look(t, mine, wrong)
                    del t  # Only then is the tuple used again.

            assert sorted(by_two(work)) == want


def pairs():
    n = 3000
    for _ in range(30):
        it = itertools.pairwise(range(n))

        def work(mine, wrong):
            for t in it:
                look(t, mine, wrong)

        assert sorted(by_two(work)) == list(itertools.pairwise(range(n)))


def zips_of_what_writes_nothing():
    """No iterator below writes anything that the other thread would be in conflict with."""
    for _ in range(30):
        z = zip(iter(Item, None), iter(Item, None))

        def work(_, wrong):
            for _ in range(5000):
                t = next(z)
                x = t[0]
                if type(x) is not Item or hasattr(x, "mine"):
                    wrong.append(x)
                x.mine = wrong
                if t[0] is not x:
                    wrong.append("changed")
                del t, x

        by_two(work)


def frames_are_cleared():
    """Each reference of a frame is dropped once."""
    marker = Item()
    keep = [marker] * 1_000_000

    def make(a, b, c, d, e, f, g, h):
        return sys._getframe()

    for _ in range(10):
        before = sys.getrefcount(marker)
        frames = [make(*[marker] * 8) for _ in range(20_000)]

        def work(_, wrong):
            for frame in frames:
                frame.clear()

        by_two(work)
        del frames
        assert sys.getrefcount(marker) == before, sys.getrefcount(marker) - before
    del keep


def locals_of_frames():
    a, b = Item(), Item()
    keep = [a, b] * 500_000

    def make():
        x = None
        return sys._getframe()

    before = sys.getrefcount(a) + sys.getrefcount(b)
    frame = make()
    own = iter((a, b))

    def work(_, wrong):
        value = next(own)
        for _ in range(50_000):
            frame.f_locals["x"] = value
            frame.f_locals["x"] = None

    by_two(work)
    frame.clear()
    own = None
    assert sys.getrefcount(a) + sys.getrefcount(b) == before, sys.getrefcount(a) + sys.getrefcount(b) - before
    del keep


def frames_of_generators():
    """One frame object for each generator, whoever asks first."""
    def make():
        x = 1
        yield x
        yield x

    n = 20_000
    for _ in range(3):
        generators = [make() for _ in range(n)]
        for g in generators:
            next(g)

        def work(mine, wrong):
            for g in generators:
                mine.append(g.gi_frame)

        frames = by_two(work)
        assert all(a is b for a, b in zip(frames[:n], frames[n:])), sum(a is not b for a, b in zip(frames[:n], frames[n:]))
        del frames
        # (What a generator's frame is after the generator has gone, CPython 3.13.5 does not know itself: gh-125723.)


CASES = [zips, longest_zips, combinatorics, pairs, zips_of_what_writes_nothing, frames_are_cleared, locals_of_frames,
         frames_of_generators]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}))
