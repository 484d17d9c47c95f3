"""What the programs with shared data have in common."""

import json
import sys
import threading
import time

try:
    import ame
    step = ame.atomic
except ImportError:
    # What a program for other Pythons does: one lock for the steps.
    step = threading.Lock()


def run(main):
    """main(threads, n) returns the work of a thread, called with its number, and a function for a digest."""
    threads, n = map(int, sys.argv[1:])
    work, digest = main(threads, n)
    crew = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    seconds = time.perf_counter() - start
    json.dump({"seconds": seconds, "digest": digest()}, sys.stdout)
    print()
