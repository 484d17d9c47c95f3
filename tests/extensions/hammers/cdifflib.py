import difflib

from cdifflib import CSequenceMatcher

from hammers.scenario import Scenario


def sequences(length):
    a = [i * 7919 % 97 for i in range(length)]
    b = [i * 7919 % 97 if i % 5 else i % 89 for i in range(length)]
    return a, b


class SharedLists(Scenario):
    """Matchers of each thread over the same lists: they find what difflib finds."""

    def prepare(self):
        self.a, self.b = sequences(60)
        self.blocks = difflib.SequenceMatcher(None, self.a, self.b).get_matching_blocks()

    def step(self, me, random):
        assert list(CSequenceMatcher(None, self.a, self.b).get_matching_blocks()) == self.blocks


class SharedMatcher(Scenario):
    """One matcher: its longest matches, asked for from all threads."""

    def prepare(self):
        a, b = sequences(80)
        self.matcher = CSequenceMatcher(None, a, b)
        plain = difflib.SequenceMatcher(None, a, b)
        self.expected = {(low, 80): plain.find_longest_match(low, 80, 0, 80) for low in range(0, 60, 10)}

    def step(self, me, random):
        for (low, high), match in self.expected.items():
            assert self.matcher.find_longest_match(low, high, 0, 80) == match


class Separate(Scenario):
    """Lists and matchers of each thread."""

    def prepare(self):
        self.own = [None] * self.threads

    def begin(self, me):
        lists = sequences(60)
        self.own[me] = lists, difflib.SequenceMatcher(None, *lists).get_matching_blocks()

    def step(self, me, random):
        lists, blocks = self.own[me]
        assert list(CSequenceMatcher(None, *lists).get_matching_blocks()) == blocks
