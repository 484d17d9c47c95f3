"""pyperformance's richards in N threads, each with a copy of the program's module: richards.py PATH N LOOPS.

PATH: run_benchmark.py of bm_richards. Prints wall and CPU time; with the plain build for comparison.
"""

import importlib.util
import sys
import threading
import time
import types

sys.modules.setdefault("pyperf", types.ModuleType("pyperf"))


def load(path, number):
    spec = importlib.util.spec_from_file_location(f"richards{number}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(path, threads, loops):
    modules = [load(path, i) for i in range(threads)]
    for module in modules:
        module.Richards().run(1)

    def work(module):
        for _ in range(loops):
            assert module.Richards().run(1)

    wall, cpu = time.perf_counter(), time.process_time()
    running = [threading.Thread(target=work, args=(module,)) for module in modules]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{threads} threads, {loops} loops each: wall {wall:.3f} s, CPU {cpu:.3f} s")
    try:
        import _ame
    except ImportError:
        return
    print(_ame.stats(True))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
