"""The benchmark programs of PyPI's pyperformance, unpacked into the cache and run unmodified.

Only the programs are used; the measuring is ours (stub/pyperf.py and speed.py), so that two builds
can be interleaved with equal work and without pyperf's worker processes.
"""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from recipe.cache import Failure, digest, entry, say, sha256
from recipe.run import clean_env, logged

VERSION = "1.14.0"
SHA256 = "94068ac2935b6952ccb5e8a302eb9cebc26e82454494bef6e53822738adf0049"
STUB = Path(__file__).resolve().parent.parent / "stub"
PROGRAMS = ("richards", "deltablue", "nbody", "fannkuch", "chaos", "go", "hexiom", "raytrace",
            "spectral_norm", "float", "nqueens", "pyflate", "json_dumps", "json_loads",
            "regex_compile", "deepcopy", "generators")


def folder():
    """Folder of the benchmark programs, downloaded with pip when it is not in the cache."""
    with entry(f"pyperformance-{digest(VERSION, SHA256)}") as (place, is_new):
        if is_new:
            say(f"downloading pyperformance {VERSION}")
            logged([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
                    "-d", place, f"pyperformance=={VERSION}"], place / "log", what="pip download",
                   env=None)
            wheels = list(place.glob("pyperformance-*.whl"))
            if len(wheels) != 1 or sha256(wheels[0]) != SHA256:
                raise Failure(f"pip gave {wheels or 'nothing'} with another SHA-256 than "
                              f"{SHA256}: pyperformance {VERSION} was expected")
            with zipfile.ZipFile(wheels[0]) as archive:
                archive.extractall(place)
            wheels[0].unlink()
        return place / "pyperformance/data-files/benchmarks"


def once(*arguments, **options):
    """As `record`; returns (loops, seconds per loop of each value)."""
    got = record(*arguments, **options)
    return got["loops"], got["values"]


def record(python, program, loops, values, seconds=0.2, clock="wall", timeout=600, threads=1, settings=()):
    """Runs one program in a fresh process; returns its loops, the values (seconds per loop of each), and
    its peak memory in bytes.

    settings: (name, value) of environment variables. With several threads each has the program for
    itself, and a value is the time until all have done their loops.
    """
    script = folder() / f"bm_{program}/run_benchmark.py"
    words = [str(python), str(script)] if threads == 1 else \
        [str(python), str(STUB / "threads.py"), str(script)]
    env = clean_env(PYTHONPATH=str(STUB), PYTHONHASHSEED="1", PYTHONDONTWRITEBYTECODE="1",
                    AME_BENCH_NAME=program, AME_BENCH_LOOPS=str(loops),
                    AME_BENCH_VALUES=str(values), AME_BENCH_SECONDS=str(seconds),
                    AME_BENCH_CLOCK=clock, AME_BENCH_THREADS=str(threads), **dict(settings))
    try:
        done = subprocess.run(words, env=env, timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              cwd=script.parent)
    except subprocess.TimeoutExpired:
        raise Failure(f"{program} took more than {timeout} s with {python}") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name"')]
    if done.returncode != 0 or len(lines) != 1:
        raise Failure(f"{program} failed with {python}, exit code {done.returncode}:\n"
                      f"{done.stderr[-2000:]}")
    return json.loads(lines[0])
