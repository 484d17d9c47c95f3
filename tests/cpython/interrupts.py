"""What interrupts a thread from outside is not lost when the transaction that it meets is rolled back.

    ame python run tests/cpython/interrupts.py

An asynchronous exception, a signal, a pending call set a bit of the thread; the bit is cleared, or was noted as
memory that a rollback restores, in a transaction. Each case sends the next one when the last one has come,
with rollbacks at random, in a process of its own. Names of cases as arguments run only these, in this process.
"""

import _thread
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

TIMES, SECONDS, CHAOS = 400, 60, "1,0.002"
# Until one that has not come counts as lost.
PATIENCE = 5


def work():
    """Long enough to be interrupted, also within C code."""
    numbers = [str(n) for n in range(200)]
    numbers.sort()
    return {n: [n] for n in numbers}


class Exchange:
    """Counts what has come; `send` is called for each, by another thread than the one that it comes to."""

    def __init__(self, send):
        self.send, self.come, self.lost = send, None, None

    def run(self):
        while self.come is None:
            time.sleep(0)
        for n in range(TIMES):
            self.send()
            end = time.monotonic() + PATIENCE
            while self.come == n:
                if time.monotonic() > end:
                    self.lost = n
                    return
                time.sleep(0)

    @property
    def over(self):
        return self.lost is not None or self.come == TIMES

    def check(self):
        assert self.lost is None, f"number {self.lost} was lost"
        assert self.come == TIMES, f"{self.come} instead of {TIMES}"


class Stop(Exception):
    pass


def asynchronous_exception():
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    raise_in.argtypes = ctypes.c_ulong, ctypes.py_object

    def until_the_next():
        # It may come from here on.
        exchange.come = come
        while not exchange.over:
            work()

    def target():
        nonlocal come
        while not exchange.over:
            try:
                until_the_next()
            except Stop:
                come += 1

    come = 0
    thread = threading.Thread(target=target)
    exchange = Exchange(lambda: raise_in(thread.ident, Stop))
    thread.start()
    exchange.run()
    thread.join()
    exchange.check()


def interrupted_main(send, number):
    """Signals are for the main thread."""
    def handle(number, frame):
        exchange.come += 1

    signal.signal(number, handle)
    exchange = Exchange(send)
    thread = threading.Thread(target=exchange.run)
    thread.start()
    exchange.come = 0
    while not exchange.over:
        work()
    thread.join()
    exchange.check()


def signal_of_the_system():
    interrupted_main(lambda: os.kill(os.getpid(), signal.SIGUSR1), signal.SIGUSR1)


def interrupt_main():
    interrupted_main(_thread.interrupt_main, signal.SIGINT)


def pending_call():
    add = ctypes.pythonapi.Py_AddPendingCall
    function = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)

    @function
    def handle(_):
        exchange.come += 1
        return 0

    exchange = Exchange(lambda: add(handle, None))
    thread = threading.Thread(target=exchange.run)
    thread.start()
    exchange.come = 0
    while not exchange.over:
        work()
    thread.join()
    exchange.check()


CASES = [asynchronous_exception, signal_of_the_system, interrupt_main, pending_call]


def main(names):
    if names:
        for case in CASES:
            if case.__name__ in names:
                case()
        return 0
    failed = 0
    for case in CASES:
        try:
            code = subprocess.run([sys.executable, __file__, case.__name__], timeout=SECONDS,
                                  env=dict(os.environ, AME_ALWAYS="1", AME_CHAOS=CHAOS)).returncode
        except subprocess.TimeoutExpired:
            code = "hangs"
        if code != 0:
            print(f"FAILED: {case.__name__}: {code}")
            failed += 1
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
