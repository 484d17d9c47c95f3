import ahocorasick

from hammers.scenario import Scenario

LETTERS = "abcd"


def word(number, length=6):
    letters = ""
    for _ in range(length):
        letters += LETTERS[number & 3]
        number >>= 2
    return letters


def found_by_hand(words, text):
    return sorted((i + len(each) - 1, each) for each in words for i in range(len(text)) if text.startswith(each, i))


class Words(Scenario):
    """One automaton, each thread with words of its own: at the end it holds, and finds, exactly theirs."""

    def prepare(self):
        self.automaton = ahocorasick.Automaton()
        self.kept = [set() for _ in range(self.threads)]

    def step(self, me, random):
        automaton, kept = self.automaton, self.kept[me]
        for _ in range(20):
            each = word(random.randrange(4096 // self.threads) * self.threads + me)
            if each in kept and random.random() < 0.5:
                assert automaton.remove_word(each)
                kept.remove(each)
            else:
                automaton.add_word(each, each)
                kept.add(each)
            assert automaton.get(each, None) == (each if each in kept else None)

    def check(self):
        words = set().union(*self.kept)
        assert len(self.automaton) == len(words) and set(self.automaton.keys()) == words
        self.automaton.make_automaton()
        text = "".join(word(i, 3) for i in range(64))
        assert sorted(self.automaton.iter(text)) == found_by_hand(words, text)


class Rebuilt(Scenario):
    """Some add and rebuild while others search: a search finds words that are there, or says that it cannot."""

    def prepare(self):
        self.automaton = ahocorasick.Automaton()
        self.always = {word(i, 4) for i in range(0, 256, 5)}
        for each in self.always:
            self.automaton.add_word(each, each)
        self.automaton.make_automaton()
        self.text = "".join(word(i, 4) for i in range(100))

    def step(self, me, random):
        automaton = self.automaton
        if random.random() < 0.1:
            automaton.add_word(word(random.randrange(256), 5), "more")
            automaton.make_automaton()
        try:
            for end, each in automaton.iter(self.text):
                assert each == "more" or self.text[end + 1 - len(each):end + 1] == each
        except (AttributeError, ValueError):
            pass  # no automaton at this moment, or another one than when the search began: it says so

    def check(self):
        self.automaton.make_automaton()
        seen = {each for _, each in self.automaton.iter(self.text)}
        assert {each for each in self.always if each in self.text} <= seen


class Separate(Scenario):
    """Searches of each thread in an automaton of its own."""

    def prepare(self):
        self.all = [None] * self.threads
        self.text = "".join(word(i) for i in range(150))
        self.count = sum(1 for _ in self.made().iter(self.text))

    def made(self):
        automaton = ahocorasick.Automaton()
        for i in range(0, 4096, 7):
            automaton.add_word(word(i), i)
        automaton.make_automaton()
        return automaton

    def begin(self, me):
        self.all[me] = self.made()

    def step(self, me, random):
        assert sum(1 for _ in self.all[me].iter(self.text)) == self.count
