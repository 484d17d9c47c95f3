"""Peak memory of builds relative to the first one, over the same programs as speed.

Each program runs once per build and round in a fresh process, with the same number of loops. What counts is the
most memory that the process had in the machine's (VmHWM, which starts anew with each program that a process
executes, as ru_maxrss does not); of several rounds the median.
"""

import statistics

from . import pyperformance
from .speed import geometric_mean
from recipe.cache import say


def measure(builds, programs=pyperformance.PROGRAMS, rounds=1, threads=1):
    """builds: (name, python executable, settings), the first is the reference. Returns a result dict."""
    peaks = {name: {program: [] for program in programs} for name, *_ in builds}
    for program in programs:
        loops = pyperformance.record(builds[0][1], program, 0, 1)["loops"]
        for _ in range(rounds):
            for name, python, settings in builds:
                got = pyperformance.record(python, program, loops, 3, threads=threads, settings=settings)
                peaks[name][program].append(got["peak"])
        say(f"{program} done")
    medians = {name: {program: statistics.median(got) for program, got in table.items()}
               for name, table in peaks.items()}
    reference = medians[builds[0][0]]
    ratios = {name: {program: table[program] / reference[program] for program in programs}
              for name, table in medians.items()}
    means = {name: geometric_mean(table.values()) for name, table in ratios.items()}
    return {"reference": builds[0][0], "threads": threads, "rounds": rounds, "bytes": medians,
            "ratios": ratios, "geometric_mean": means}


def table(result):
    """The result as a markdown table."""
    reference = result["reference"]
    others = [name for name in result["ratios"] if name != reference]
    lines = [f"| program | {reference} (MB) | " + " | ".join(others) + " |",
             "| --- " * (2 + len(others)) + "|"]
    for program, base in result["bytes"][reference].items():
        cells = " | ".join(f"{result['ratios'][name][program]:.2f}" for name in others)
        lines.append(f"| {program} | {base / 1e6:.1f} | {cells} |")
    cells = " | ".join(f"**{result['geometric_mean'][name]:.3f}**" for name in others)
    lines.append(f"| geometric mean | | {cells} |")
    return "\n".join(lines)
