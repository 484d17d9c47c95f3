"""Frames that a transaction finds in the middle of being made or cleared, where a chunk of the frame stack begins.

    ame python run tests/cpython/frames.py

They are not in the chain of frames that the loop goes along, and what runs above them ends the transaction, which is then
rolled back at random: they must be again what they were.
"""

import sys
import time

import cases

# A chunk has room for about 150 of these frames.
DEPTHS = range(1, 260, 7)
SEEDS = 1, 2, 3
SECONDS = 60


class Dies:
    """Its end runs other frames above the one that is cleared."""

    def __init__(self, log):
        self.log = log

    def __del__(self):
        self.step(3)

    def step(self, more):
        if more:
            return self.step(more - 1)
        time.sleep(0)
        self.log.append(1)


class Word(str):
    """As a keyword, it is compared with the names of parameters while the frame is made."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        time.sleep(0)
        return str.__eq__(self, other)


def make(a=None):
    values = [a]
    time.sleep(0)
    return values


def go_down(depth, log):
    dies, number, values = Dies(log), depth, [depth]
    result = go_down(depth - 1, log) + 1 if depth else 0
    assert make(**{Word("a"): depth}) == [depth]
    assert number == depth and values == [depth]
    return result


def frames_beside_others():
    def work():
        log = []
        for depth in DEPTHS:
            assert go_down(depth, log) == depth
        assert len(log) == sum(depth + 1 for depth in DEPTHS)
        done.append(1)

    done = []
    cases.in_threads(3, work)
    assert len(done) == 3


if __name__ == "__main__":
    sys.exit(cases.main([frames_beside_others], SECONDS, {"AME_ALWAYS": "1"},
                        *({"AME_ALWAYS": "1", "AME_CHAOS": f"{seed},0.01"} for seed in SEEDS)))
