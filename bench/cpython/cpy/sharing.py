"""Programs whose threads share data (sharing/): time of two threads, and whether the result is the serial one."""

import json
import statistics
import subprocess
from pathlib import Path

from recipe.cache import Failure, say
from recipe.run import clean_env

FOLDER = Path(__file__).resolve().parent.parent / "sharing"
# With the work that they get.
PROGRAMS = {"counts": 600_000, "queue_of_work": 10_000, "keys": 4_000}


def once(python, program, threads, settings=(), timeout=300):
    words = [str(python), str(FOLDER / f"{program}.py"), str(threads), str(PROGRAMS[program])]
    done = subprocess.run(words, env=clean_env(PYTHONHASHSEED="1", **dict(settings)), timeout=timeout,
                          text=True, capture_output=True)
    if done.returncode != 0:
        raise Failure(f"{program} failed with {python}, exit code {done.returncode}:\n{done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    return result["seconds"], result["digest"]


def measure(builds, rounds=3, threads=2):
    """builds: (name, python executable, settings), the first is the reference, whose result the others
    have to come to. Returns {name: {program: median seconds}}."""
    times, digests = {name: {} for name, *_ in builds}, {}
    for number in range(rounds):
        for program in PROGRAMS:
            for name, python, settings in builds if number % 2 == 0 else builds[::-1]:
                seconds, digest = once(python, program, threads, settings)
                if digests.setdefault(program, digest) != digest:
                    raise Failure(f"{program} came to another result with {name}")
                times[name].setdefault(program, []).append(seconds)
        say(f"round {number + 1} of {rounds} done")
    return {name: {program: statistics.median(got) for program, got in table.items()}
            for name, table in times.items()}


def table(seconds):
    """As markdown; ratios to the first build."""
    reference, *others = seconds
    lines = [f"| program | {reference} (ms) | " + " | ".join(others) + " |",
             "| --- " * (2 + len(others)) + "|"]
    for program, base in seconds[reference].items():
        cells = " | ".join(f"{seconds[name][program] / base:.2f}" for name in others)
        lines.append(f"| {program} | {base * 1000:.0f} | {cells} |")
    return "\n".join(lines)
