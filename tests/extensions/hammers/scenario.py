"""What the hammers of all packages share."""


class Scenario:
    """One thing to do to an extension from several threads.

    `step(me, random)` does some 100 microseconds of it in thread `me` of `threads`, with that thread's own
    random numbers, and raises AssertionError when it gets a wrong answer; `check()` looks at the whole when
    all threads have ended. What a step demands holds under a GIL: between two calls of the extension other
    threads may run, in the middle of one only where it calls Python code.
    """

    def __init__(self, threads):
        self.threads = threads
        self.prepare()

    def prepare(self):
        """Makes the objects that the threads work on."""

    def begin(self, me):
        """In thread `me`, before its first step: makes the objects that only that thread works on. What another thread
        has made is counted with atomic instructions, which no program does with its own objects."""

    def step(self, me, random):
        raise NotImplementedError

    def check(self):
        """Nothing by default: the steps have checked."""
