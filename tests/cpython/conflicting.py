"""Two threads in each other's way, in the manner that the first argument names: for `conflicts`.

The line of a conflict ends in a comment with that name. Prints ame.conflicts() as JSON.
"""

import json
import random
import sys
import threading
import time

import ame

counts = {"first": 0, "key": 0}
squares = []
total = 0
lock = threading.Lock()


class Account:
    def __init__(self):
        self.owner = self.limit = self.rate = None
        self.balance = 0


class Slotted:
    __slots__ = ("one", "two", "three", "level")

    def __init__(self):
        self.one = self.two = self.three = None
        self.level = 0


account = Account()
slotted = Slotted()
shared = type(sys)("shared")
shared.first = shared.second = shared.state = 0


def in_dict():
    with ame.atomic:
        for _ in range(100):
            counts["key"] += 1  # dict


def in_list():
    for i in range(1000):
        squares.append(i)  # list
    with ame.atomic:
        squares.clear()


def in_attribute():
    with ame.atomic:
        for _ in range(100):
            account.balance += 1  # attribute


def in_slot():
    with ame.atomic:
        for _ in range(100):
            slotted.level += 1  # slot


def in_global():
    global total
    with ame.atomic:
        for _ in range(100):
            total += 1  # global


def in_module():
    with ame.atomic:
        for _ in range(100):
            shared.state += 1  # module


def in_library():
    for _ in range(100):
        random.randrange(10)  # library


def in_generator():
    for _ in range(100):
        random.random()  # generator


def in_lock():
    for _ in range(100):
        with lock:  # lock
            sum(range(100))


def apart():
    for i in range(2000):
        i * i


def run(function, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        function()
        # A transaction ends outside of atomic blocks only.
        apart()


def main():
    name = sys.argv[1]
    function = globals()[name if name == "apart" else f"in_{name}"]
    ame.watch("watch" in sys.argv)
    threads = [threading.Thread(target=run, args=(function, 0.6)) for _ in range(2)]
    for thread in threads:
        thread.start()
    alive = ame.thread_stats()
    for thread in threads:
        thread.join()
    assert {thread.native_id for thread in threads} & set(alive), alive
    print(json.dumps(ame.conflicts()))
    totals = ame.stats()
    assert totals["commits"] > 0 and totals["ns_waiting"] >= 0 and totals["ns_aborted"] >= 0, totals


main()
