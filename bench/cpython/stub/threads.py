"""Runs a pyperformance program in AME_BENCH_THREADS threads at once: threads.py run_benchmark.py

Each thread loads the program and what it imports for itself, so it has code, classes and data of its own. With
AME_BENCH_SHARED=modules they have modules in common, with AME_BENCH_SHARED=code the program's code objects, too. They
start each timed value together; its time is that of the whole, from the start of all to the end of the last, in seconds per
loop of one thread. One line of JSON goes to standard output, as from pyperf.py.
"""

import gc
import os
import sys
import threading
import time
import traceback

import pyperf


#: Loaded before any program, and with state: how to copy, encoders, one generator of random numbers, a cache of patterns.
STATEFUL = "copy", "json", "random", "re"


class Crew:
    def __init__(self, threads):
        self.moments = []
        # Programs may change what they import while they get ready (regex_compile notes who calls re.compile): one
        # after the other, and nobody runs before all have.
        self.loading = threading.Lock()
        # Taken by one thread while the others wait.
        self.barrier = threading.Barrier(threads, self.note)

    def note(self):
        self.moments.append((time.perf_counter(), time.process_time()))

    def measure(self, timed, loops, values):
        self.loading.release()
        self.barrier.wait()
        timed(loops)  # warm-up
        if self.barrier.wait() == 0:
            gc.collect()
        self.barrier.wait()
        del self.moments[:]
        for _ in range(values):
            self.barrier.wait()
            timed(loops)
            self.barrier.wait()


def main(script, name, threads, loops):
    sys.argv[:] = [script]
    sys.path[0] = os.path.dirname(script)
    with open(script) as file:
        source = file.read()
    shared = os.environ.get("AME_BENCH_SHARED")
    shared_code = compile(source, script, "exec") if shared == "code" else None
    crew = pyperf.crew = Crew(threads)
    common = {name for name in sys.modules if name.partition(".")[0] not in STATEFUL}
    failed = []

    def work():
        crew.loading.acquire()
        try:
            code = shared_code or compile(source, script, "exec")
            if not shared:
                for name in sys.modules.keys() - common:
                    del sys.modules[name]
            exec(code, {"__name__": "__main__", "__file__": script})
        except BaseException:
            traceback.print_exc()
            failed.append(True)
            crew.barrier.abort()
            if crew.loading.locked():
                crew.loading.release()

    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failed:
        sys.exit(1)
    clock = 1 if os.environ.get("AME_BENCH_CLOCK") == "cpu" else 0
    values = [(end[clock] - start[clock]) / loops
              for start, end in zip(crew.moments[::2], crew.moments[1::2])]
    pyperf.tell(name, loops, values)


if __name__ == "__main__":
    main(sys.argv[1], os.environ["AME_BENCH_NAME"], int(os.environ["AME_BENCH_THREADS"]),
         int(os.environ["AME_BENCH_LOOPS"]))
