"""Speed of builds relative to the first one: interleaved runs, medians, geometric mean.

Each round runs each program once per build, in alternating order, in a fresh process with the same
number of loops: one warm-up, then timed values. A program's time is the median over rounds of the
least value of each process; what is compared is that time divided by the first build's.
"""

import math
import statistics

from . import pyperformance
from recipe.cache import say


def measure(builds, programs=pyperformance.PROGRAMS, rounds=5, values=3, seconds=0.2,
            clock="wall", threads=1):
    """builds: (name, python executable, settings), the first is the reference. Returns a result dict.

    threads: each program in so many threads at once, each with its own data.
    """
    loops, times = {}, {name: {} for name, *_ in builds}
    for program in programs:
        loops[program], _ = pyperformance.once(builds[0][1], program, 0, 1, seconds, clock)
    say(f"loops: {loops}")
    for number in range(rounds):
        for program in programs:
            order = builds if number % 2 == 0 else builds[::-1]
            for name, python, settings in order:
                _, got = pyperformance.once(python, program, loops[program], values, seconds, clock,
                                            threads=threads, settings=settings)
                times[name].setdefault(program, []).append(min(got))
        say(f"round {number + 1} of {rounds} done")
    medians = {name: {program: statistics.median(got) for program, got in table.items()}
               for name, table in times.items()}
    reference = medians[builds[0][0]]
    ratios = {name: {program: medians[name][program] / reference[program] for program in programs}
              for name, *_ in builds}
    spread = {name: {program: (max(got) - min(got)) / statistics.median(got)
                     for program, got in table.items()} for name, table in times.items()}
    means = {name: geometric_mean(table.values()) for name, table in ratios.items()}
    return {"reference": builds[0][0], "clock": clock, "threads": threads, "rounds": rounds,
            "values": values, "loops": loops, "seconds": medians, "ratios": ratios,
            "spread": spread, "geometric_mean": means}


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def table(result):
    """The result as a markdown table."""
    names = list(result["ratios"])
    others = [name for name in names if name != result["reference"]]
    lines = [f"| program | {result['reference']} (ms) | " + " | ".join(others) + " |",
             "| --- " * (2 + len(others)) + "|"]
    for program in result["loops"]:
        cells = " | ".join(f"{result['ratios'][name][program]:.2f}" for name in others)
        base = result["seconds"][result["reference"]][program] * 1000
        lines.append(f"| {program} | {base:.3g} | {cells} |")
    cells = " | ".join(f"**{result['geometric_mean'][name]:.3f}**" for name in others)
    lines.append(f"| geometric mean | | {cells} |")
    return "\n".join(lines)
