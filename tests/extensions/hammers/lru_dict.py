from lru import LRU

from hammers.scenario import Scenario

KEYS = 512


class Shared(Scenario):
    """One LRU that all threads fill, read and empty: never too full, and values belong to their keys."""

    def prepare(self):
        self.lru = LRU(KEYS // 2)

    def step(self, me, random):
        lru = self.lru
        for _ in range(40):
            key = random.randrange(KEYS)
            lru[key] = (key, me)
            found = lru.get(random.randrange(KEYS))
            assert found is None or 0 <= found[0] < KEYS
            if key % 16 == 0:
                lru.pop(key, None)

    def check(self):
        items = self.lru.items()
        assert len(items) == len(self.lru) <= KEYS // 2
        assert len({key for key, _ in items}) == len(items)
        assert all(key == value[0] for key, value in items)


class Statistics(Scenario):
    """Lookups only count: the sum of all threads' hits and misses is what the LRU says."""

    def prepare(self):
        self.lru = LRU(64)
        for key in range(64):
            self.lru[key] = key
        self.counts = [[0, 0] for _ in range(self.threads)]

    def step(self, me, random):
        counts = self.counts[me]
        for _ in range(80):
            key = random.randrange(96)
            found = self.lru.get(key)
            assert found is None if key >= 64 else found == key
            counts[found is None] += 1

    def check(self):
        expected = tuple(sum(each) for each in zip(*self.counts))
        assert self.lru.get_stats() == expected, (self.lru.get_stats(), expected)


class Evictions(Scenario):
    """A callback in Python for each evicted pair, while others evict: none is lost, none comes twice."""

    def prepare(self):
        self.gone = []
        self.lru = LRU(128, callback=lambda key, value: self.gone.append((key, value)))
        self.made = [0] * self.threads

    def step(self, me, random):
        for _ in range(20):
            # Unique in the process, so that nothing is replaced.
            key = self.made[me] * self.threads + me
            self.lru[key] = -key
            self.made[me] += 1

    def check(self):
        pairs = self.gone + self.lru.items()
        assert len(pairs) == sum(self.made), (len(pairs), sum(self.made))
        assert len({key for key, _ in pairs}) == len(pairs)
        assert all(key == -value for key, value in pairs)


class Separate(Scenario):
    """An LRU for each thread."""

    def prepare(self):
        self.all = [None] * self.threads

    def begin(self, me):
        self.all[me] = LRU(256)

    def step(self, me, random):
        lru = self.all[me]
        for key in range(0, 300, 3):
            lru[key] = key
            assert lru.get(key) == key
