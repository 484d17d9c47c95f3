"""Two threads resume one generator, in atomic blocks: each number is given out once, in order.

Was broken: a value is pushed onto a generator's frame before its state says that it runs, so that two threads
did so at once.   ame python run tests/cpython/one_generator.py [SECONDS]
"""

import sys
import threading
import time

import ame


def count_up():
    number = 0
    while True:
        number += 1
        yield number


class Shared:
    numbers = count_up()
    given_out = 0


def work(shared, end, problems):
    try:
        while time.time() < end and not problems:
            for _ in range(200):
                with ame.atomic:
                    number = next(shared.numbers)
                    shared.given_out += 1
                    if number != shared.given_out:
                        raise AssertionError(f"{number} after {shared.given_out - 1}")
    except BaseException as problem:
        problems.append(repr(problem))


def main():
    shared, problems = Shared(), []
    end = time.time() + float(sys.argv[1] if len(sys.argv) > 1 else 10)
    threads = [threading.Thread(target=work, args=(shared, end, problems)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{shared.given_out} numbers", *problems, sep="\n")
    print("0 passed, 1 failed" if problems else "1 passed, 0 failed")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
