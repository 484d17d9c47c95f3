"""Runs the scenarios of hammers/NAME.py in processes of their own, and tells how they ended."""

import json
import subprocess
import time
from pathlib import Path

from .suite import describe, environment

HAMMERS = Path(__file__).resolve().parents[1] / "hammers"
#: Seconds that a process may take beyond its time before it counts as hung.
PATIENCE = 60


def scenarios(package):
    """Names, read from the script without importing the package."""
    text = (HAMMERS / f"{package.name}.py").read_text()
    return [line.split("(")[0].removeprefix("class ") for line in text.splitlines()
            if line.startswith("class ") and "Scenario)" in line]


def play(package, python, scenario, threads, seconds, beside=False, **settings):
    """One run: {"end": "passed" or what happened, "steps": [for each thread], "seconds": s, "took": s of the whole
    process, ...}. `beside`: one more thread that runs only Python. `settings`: of the environment; PYTHON_GIL="0" forces
    the GIL of a free-threaded build off."""
    env = environment() | settings
    command = [python, "-X", "faulthandler", HAMMERS / "play.py", package.name, scenario,
               "--threads", threads, "--seconds", seconds, "--module", package.module]
    if beside:
        command.append("--beside")
    start = time.monotonic()
    try:
        done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace", env=env,
                              timeout=seconds + PATIENCE)
    except subprocess.TimeoutExpired:
        return {"end": f"hung: no end {PATIENCE} s after its time", "steps": [], "seconds": seconds,
                "took": seconds + PATIENCE, "stderr": ""}
    try:
        result = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        result = {"steps": [], "seconds": seconds}
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("  ")]
        word = describe(done.returncode)
        detail = last[0] if done.returncode < 0 and last else (last[-1] if last else "")
        result["end"] = f"{word}: {detail[:160]}" if detail else word
    else:
        result["end"] = "passed"
    result["took"] = time.monotonic() - start
    result["stderr"] = done.stderr[-2000:]
    return result
