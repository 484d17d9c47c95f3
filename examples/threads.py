"""A simulation in several threads: threads.py [THREADS [ROUNDS]]

Each thread has a bank of its own, with tellers and customers, and books the outcome into one ledger that
all share. The threads of AME CPython run in parallel, those of CPython one after another; the ledger
is the same. Without Ame, `ame` is a module with a lock: PYTHONPATH=cpython-shim/python.
"""

import sys
import threading
import time

import ame


class Customer:
    def __init__(self, number):
        self.number = number
        self.balance = 1000 + number
        self.visits = 0

    def pay(self, other, amount):
        if self.balance >= amount:
            self.balance -= amount
            other.balance += amount
            self.visits += 1
            return amount
        return 0


class Teller:
    def __init__(self):
        self.served = 0
        self.turnover = 0

    def serve(self, customer, other, amount):
        self.served += 1
        self.turnover += customer.pay(other, amount)


class Bank:
    def __init__(self, seed):
        self.customers = [Customer(i) for i in range(200)]
        self.tellers = [Teller() for _ in range(4)]
        self.state = seed

    def draw(self, n):
        self.state = (self.state * 1103515245 + 12345) % 2147483648
        return self.state // 65536 % n

    def day(self, visits):
        for _ in range(visits):
            customer = self.customers[self.draw(200)]
            other = self.customers[self.draw(200)]
            self.tellers[self.draw(4)].serve(customer, other, self.draw(90))


ledger = {"served": 0, "turnover": 0, "days": 0}


def simulate(seed, rounds):
    bank = Bank(seed)
    for _ in range(rounds):
        bank.day(500)
        with ame.atomic:
            ledger["days"] += 1
    with ame.atomic:
        for teller in bank.tellers:
            ledger["served"] += teller.served
            ledger["turnover"] += teller.turnover
    assert sum(c.balance for c in bank.customers) == sum(1000 + i for i in range(200))


def main(threads=2, rounds=1000):
    start = time.perf_counter()
    running = [threading.Thread(target=simulate, args=(i, rounds)) for i in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    taken = time.perf_counter() - start
    assert ledger["served"] == 500 * ledger["days"] == 500 * threads * rounds
    print(f"{threads} threads, {ledger}: {taken:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
