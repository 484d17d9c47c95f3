"""Processes that meet at a barrier, always in transactions: ame python run tests/cpython/processes.py

Was broken: a transaction that ended gave its locks back before it posted the semaphores that the program had posted
under them, so that another process found nobody to wake.
"""

import faulthandler
import multiprocessing
import os
import sys

PROCESSES, ROUNDS, SECONDS = 3, 300, 60


def work(barrier):
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    for _ in range(ROUNDS):
        barrier.wait()


def main():
    if os.environ.get("AME_ALWAYS") != "1":
        os.environ["AME_ALWAYS"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.argv])
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(PROCESSES)
    crew = [context.Process(target=work, args=(barrier,)) for _ in range(PROCESSES)]
    for process in crew:
        process.start()
    for process in crew:
        process.join()
    codes = [process.exitcode for process in crew]
    if any(codes):
        sys.exit(f"processes: not all came through {ROUNDS} rounds: exit codes {codes}")
    print(f"processes: {PROCESSES} processes met {ROUNDS} times")


if __name__ == "__main__":
    main()
