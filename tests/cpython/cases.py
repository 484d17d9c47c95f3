"""Cases of a test program, each in a process of its own: what hangs or crashes is that case."""

import os
import subprocess
import sys
import threading


def in_threads(number, work):
    """Runs it in so many threads at once, and returns when all have ended."""
    beside(*[work] * number)


def beside(*works):
    """Runs each in a thread of its own, and returns when all have ended."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(cases, seconds, *settings):
    """Runs functions of the program that is executed, each with each dict of settings in its environment, and prints what
    failed. With names as arguments of the program only these, in this process. Returns the exit code."""
    names = sys.argv[1:]
    if names:
        for case in cases:
            if case.__name__ in names:
                case()
        return 0
    # Unbuffered, files have no locks.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    failed = 0
    for case in cases:
        for setting in settings:
            try:
                code = subprocess.run([sys.executable, sys.argv[0], case.__name__], timeout=seconds,
                                      env=environment | setting).returncode
            except subprocess.TimeoutExpired:
                code = "hangs"
            if code != 0:
                print(f"FAILED: {case.__name__} {setting}: {code}")
                failed += 1
    print(f"{len(cases) * len(settings) - failed} passed, {failed} failed")
    return 1 if failed else 0
