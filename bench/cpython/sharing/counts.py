"""Two threads share one big dictionary and update it at random keys, each update one atomic block:

counts.py THREADS UPDATES. Prints the seconds and a digest of the result, which no order of the updates changes.
"""

import random

from common import run, step

KEYS = 100_000


def main(threads, updates):
    counts = dict.fromkeys(range(KEYS), 0)

    def work(number):
        choose = random.Random(number).randrange
        for _ in range(updates // threads):
            key, amount = choose(KEYS), choose(10)
            with step:
                counts[key] += amount
                counts[(key * 7 + 1) % KEYS] += 1

    return work, lambda: hash(tuple(counts.items()))


if __name__ == "__main__":
    run(main)
