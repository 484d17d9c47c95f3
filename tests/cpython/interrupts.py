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
import sys
import threading
import time

import cases

TIMES, SECONDS, CHAOS = 400, 60, "1,0.002"
# Until one that has not come counts as lost.
PATIENCE = 5


def work():
    """Long enough to be interrupted, also within C code, none of which looks for signals (`str(n)` does)."""
    numbers = [-n for n in range(200)]
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

    def come_here(self):
        """To the thread that calls this."""
        thread = threading.Thread(target=self.run)
        thread.start()
        self.come = 0
        while not self.over:
            work()
        thread.join()
        self.check()

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
    exchange.come_here()


def signal_of_the_system():
    interrupted_main(lambda: os.kill(os.getpid(), signal.SIGUSR1), signal.SIGUSR1)


def signals_do_not_wait():
    """However long transactions may be."""
    sys.setswitchinterval(1)

    def handle(number, frame):
        come.append(time.monotonic())

    come = []
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    # Without garbage, whose collection begins a transaction of its own.
    while len(come) < 31:
        pass
    # Another process may have had the processor.
    between = sorted(b - a for a, b in zip(come, come[1:]))
    assert between[len(between) // 2] < 0.04, between


def interrupt_main():
    interrupted_main(_thread.interrupt_main, signal.SIGINT)


def interrupt_from_outside():
    """By C code outside of transactions: nobody asks for the end of the one that it meets."""
    interrupt = ctypes.CDLL(None).PyErr_SetInterruptEx
    interrupted_main(lambda: interrupt(signal.SIGINT), signal.SIGINT)


def pending_call():
    add = ctypes.pythonapi.Py_AddPendingCall
    function = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)

    @function
    def handle(_):
        exchange.come += 1
        return 0

    exchange = Exchange(lambda: add(handle, None))
    exchange.come_here()


CASES = [asynchronous_exception, signal_of_the_system, interrupt_main, interrupt_from_outside, pending_call]


if __name__ == "__main__":
    # A rollback would let the handler run.
    sys.exit(cases.main([signals_do_not_wait], SECONDS, {"AME_ALWAYS": "1"})
             or cases.main(CASES, SECONDS, {"AME_ALWAYS": "1", "AME_CHAOS": CHAOS}))
