"""Stands in for pyperf where a pyperformance program runs under `cpython speed`.

It offers what those programs use of pyperf, and none of pyperf's process machinery: the number of
loops and of timed values comes from the environment, and one line of JSON with the seconds per
loop goes to standard output. With AME_BENCH_LOOPS=0 it finds the loops that take AME_BENCH_SECONDS.
threads.py runs a program in several threads: `crew` is set then.
"""

import argparse
import gc
import json
import os
import sys
import time

# On a machine that does other things too, only the process' own CPU time says something.
perf_counter = time.process_time if os.environ.get("AME_BENCH_CLOCK") == "cpu" \
    else time.perf_counter

__all__ = ["Runner", "perf_counter"]

crew = None


def tell(name, loops, values):
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    json.dump({"name": name, "loops": loops, "values": values, "peak": peak}, sys.stdout)
    print()


class Runner:
    def __init__(self, add_cmdline_args=None, **_ignored):
        self.metadata = {}
        self.argparser = argparse.ArgumentParser()
        self.args = None
        self.only = os.environ["AME_BENCH_NAME"]
        self.loops = int(os.environ.get("AME_BENCH_LOOPS", "0"))
        self.values = int(os.environ.get("AME_BENCH_VALUES", "3"))
        self.seconds = float(os.environ.get("AME_BENCH_SECONDS", "0.2"))

    def parse_args(self, argv=None):
        if self.args is None:
            self.args = self.argparser.parse_args(argv)
        return self.args

    def bench_func(self, name, func, *args, inner_loops=None, **_ignored):
        def timed(loops):
            repeat = range(loops)
            start = perf_counter()
            for _ in repeat:
                func(*args)
            return perf_counter() - start
        self.measure(name, timed)

    def bench_time_func(self, name, func, *args, **_ignored):
        self.measure(name, lambda loops: func(loops, *args))

    def measure(self, name, timed):
        # A program may define several benchmarks (deepcopy has three); one is asked for.
        if name != self.only:
            return
        self.parse_args()
        if crew is not None:
            return crew.measure(timed, self.loops, self.values)
        if self.loops == 0:
            self.loops = self.calibrate(timed)
        else:
            timed(self.loops)  # warm-up: specialisation, caches, memory
        gc.collect()
        values = [timed(self.loops) / self.loops for _ in range(self.values)]
        tell(name, self.loops, values)

    def calibrate(self, timed):
        loops = 1
        timed(1)
        while True:
            taken = timed(loops)
            if taken >= self.seconds / 2:
                return max(1, round(loops * self.seconds / taken))
            loops *= max(2, min(16, int(self.seconds / max(taken, 1e-6) / 2)))
