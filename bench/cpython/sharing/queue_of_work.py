"""Threads take numbers from one shared queue, factor them, and put the results into a shared dictionary.

queue_of_work.py THREADS NUMBERS. Prints the seconds and a digest of the results.
"""

from collections import deque

from common import run, step


def factors(n):
    found = []
    divisor = 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            found.append(divisor)
            n //= divisor
        divisor += 1
    if n > 1:
        found.append(n)
    return found


def main(threads, numbers):
    queue = deque(range(10_000_019, 10_000_019 + 2 * numbers, 2))
    results = {}

    def work(_):
        while True:
            with step:
                if not queue:
                    return
                n = queue.popleft()
            found = factors(n)
            with step:
                results[n] = found

    return work, lambda: hash(tuple((n, tuple(results[n])) for n in sorted(results)))


if __name__ == "__main__":
    run(main)
