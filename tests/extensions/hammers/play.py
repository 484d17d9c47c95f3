"""Plays one scenario: play.py NAME SCENARIO --threads N --seconds S --module M [--beside]

N threads call the scenario's `step` until the time is over; then it checks its invariants. The last line of
standard output is JSON: steps of each thread, seconds, whether the GIL was on. `--beside`: one more thread runs
pure Python, and says how many rounds it has made; with `--threads 0` it runs alone.
"""

import argparse
import importlib
import json
import random
import sys
import threading
import time
from pathlib import Path

#: So long threads get to run before they look at the clock: steps take some 100 microseconds.
BATCH = 8


def pure_python():
    """Some 100 microseconds of what only the interpreter does, on the thread's own objects."""
    total = 0
    seen = {}
    for i in range(600):
        seen[i & 31] = total
        total += i * 3 % 7
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("scenario")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--beside", action="store_true")
    args = parser.parse_args()
    # Our folder has modules of the packages' names.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    importlib.import_module(args.module)
    scenario = getattr(importlib.import_module(f"hammers.{args.name}"), args.scenario)(max(args.threads, 1))

    steps, failures = [0] * args.threads, []
    rounds = 0
    start = threading.Barrier(args.threads + args.beside + 1)
    stop = threading.Event()

    def work(me):
        own, n = random.Random(me), 0
        try:
            scenario.begin(me)
            start.wait()
            while not stop.is_set():
                for _ in range(BATCH):
                    scenario.step(me, own)
                n += BATCH
        except BaseException as error:
            failures.append(error)
            # Who still waits to start must not wait for this thread.
            start.abort()
            raise
        finally:
            steps[me] = n

    def compute():
        nonlocal rounds
        n = 0
        start.wait()
        while not stop.is_set():
            for _ in range(BATCH):
                pure_python()
            n += BATCH
        rounds = n

    threads = [threading.Thread(target=work, args=(me,)) for me in range(args.threads)]
    if args.beside:
        threads.append(threading.Thread(target=compute))
    for thread in threads:
        thread.start()
    try:
        start.wait()
    except threading.BrokenBarrierError:
        stop.set()
    began = time.perf_counter()
    stop.wait(args.seconds)
    stop.set()
    took = time.perf_counter() - began
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    if args.threads:
        scenario.check()
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(json.dumps({"steps": steps, "rounds": rounds, "seconds": took, "gil": gil}))


if __name__ == "__main__":
    main()
