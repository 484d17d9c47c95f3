"""The performance bars of AME CPython in one run: each with what was measured."""

from . import memory, pyperformance, sharing, speed


def measure(python, rounds, programs=pyperformance.PROGRAMS):
    """python(name) gives what `speed` measures of a variant. Yields (name, measured, bar or None, table); lower
    is better in all of them."""
    plain, ours, always = python("plain"), python("parallel"), python("parallel,AME_ALWAYS=1")
    free_threaded = python("free-threaded")
    peers = [plain, ours, free_threaded]

    one = speed.measure([plain, ours, always], programs, rounds)
    mean = one["geometric_mean"]
    yield "time of one thread, solo, times plain", mean["parallel"], 1.08, speed.table(one)
    yield "time of one thread in transactions, times plain", mean["parallel,AME_ALWAYS=1"], 1.45, None

    for whose, settings, gil_bar, free_threaded_bar in (
            ("", [], 1 / 1.4, 1 / 1.25),
            (", library modules in common", [("AME_BENCH_SHARED", "modules")], None, None)):
        builds = [(name, path, given + settings) for name, path, given in peers]
        two = speed.measure(builds, programs, rounds, threads=2)
        mean = two["geometric_mean"]
        yield f"time of two threads{whose}, times plain", mean["parallel"], gil_bar, speed.table(two)
        yield (f"time of two threads{whose}, times free-threaded",
               mean["parallel"] / mean["free-threaded"], free_threaded_bar, None)

    together = sharing.measure(peers, rounds)
    ratios = sorted(together["parallel"][name] / together["plain"][name] for name in sharing.PROGRAMS)
    yield ("two threads that share data, times plain: second best of three", ratios[1], 1.0,
           sharing.table(together))

    peak = memory.measure([plain, ours], programs)
    yield "peak memory, times plain", peak["geometric_mean"]["parallel"], 1.5, memory.table(peak)


def line(name, measured, bar):
    if bar is None:
        return f"       {name}: {measured:.3f}"
    return f"{'met   ' if measured <= bar else 'MISSED'} {name}: {measured:.3f}, bar {bar:.2f}"
