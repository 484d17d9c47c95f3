"""cdifflib against difflib: the sdist has data, but no tests."""

import difflib
import random

import pytest

from cdifflib import CSequenceMatcher


def same(a, b, **options):
    """The two matchers agree on everything."""
    fast, slow = CSequenceMatcher(None, a, b, **options), difflib.SequenceMatcher(None, a, b, **options)
    assert list(fast.get_matching_blocks()) == slow.get_matching_blocks()
    assert fast.get_opcodes() == slow.get_opcodes()
    assert list(fast.get_grouped_opcodes(2)) == list(slow.get_grouped_opcodes(2))
    assert fast.ratio() == slow.ratio()
    assert fast.quick_ratio() == slow.quick_ratio()
    assert fast.real_quick_ratio() == slow.real_quick_ratio()
    assert fast.find_longest_match(0, len(a), 0, len(b)) == slow.find_longest_match(0, len(a), 0, len(b))


@pytest.mark.parametrize("a, b", [
    ("", ""), ("a", ""), ("", "a"), ("abc", "abc"), ("abcd", "bcde"), ("qabxcd", "abycdf"),
    ("private Thread currentThread;", "private volatile Thread currentThread;"),
])
def test_texts(a, b):
    same(a, b)


@pytest.mark.parametrize("kind", [list, tuple])
def test_sequences(kind):
    same(kind(range(50)), kind(range(10, 70, 2)))


@pytest.mark.parametrize("seed", range(12))
def test_random(seed):
    numbers = random.Random(seed)
    a = [numbers.randrange(12) for _ in range(numbers.randrange(150))]
    b = [numbers.randrange(12) for _ in range(numbers.randrange(150))]
    same(a, b)


@pytest.mark.parametrize("autojunk", [True, False])
def test_popular_elements(autojunk):
    """From 200 elements on, those in more than one of a hundred places are junk."""
    numbers = random.Random(1)
    a = [numbers.choice((1, 1, 1, numbers.randrange(300))) for _ in range(400)]
    b = a[:150] + [numbers.randrange(300) for _ in range(120)] + a[180:]
    same(a, b, autojunk=autojunk)


def test_lines():
    a = [f"line {i}\n" for i in range(300)]
    b = [line for i, line in enumerate(a) if i % 7] + ["more\n"]
    same(a, b)


def test_junk_function():
    fast = CSequenceMatcher(lambda x: x == " ", " abcd", "abcd abcd")
    slow = difflib.SequenceMatcher(lambda x: x == " ", " abcd", "abcd abcd")
    assert list(fast.get_matching_blocks()) == slow.get_matching_blocks()


def test_new_sequences():
    matcher = CSequenceMatcher(None, "abc", "abd")
    first = matcher.ratio()
    matcher.set_seq2("xyz")
    assert matcher.ratio() == 0 < first
    matcher.set_seqs("xy", "xyz")
    assert list(matcher.get_matching_blocks()) == difflib.SequenceMatcher(None, "xy", "xyz").get_matching_blocks()


def test_elements_that_compare():
    class Element:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            return self.value == other.value

        def __hash__(self):
            return hash(self.value)

    same([Element(i) for i in (1, 2, 3, 4)], [Element(i) for i in (2, 3, 9)])


def test_unhashable():
    with pytest.raises(TypeError):
        CSequenceMatcher(None, [[]], [[]]).get_matching_blocks()
