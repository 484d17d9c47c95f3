"""Threads process the keys of one dictionary in parallel: PyPy-STM's example of a loop over a dictionary
("transactional_dict" and TransactionQueue in its documentation). Each key is one atomic step that reads a
shared graph and writes its own entry of the result.

keys.py THREADS KEYS. Prints the seconds and a digest of the result.
"""

from common import run, step


def main(threads, n):
    graph = {key: [(key * 31 + i * i) % n for i in range(40)] for key in range(n)}
    weight = dict.fromkeys(graph, 0)

    def work(number):
        for key in list(graph)[number::threads]:
            with step:
                total = 0
                for neighbour in graph[key]:
                    for second in graph[neighbour]:
                        total += second ^ key
                weight[key] = total % 1_000_003

    return work, lambda: hash(tuple(weight.items()))


if __name__ == "__main__":
    run(main)
