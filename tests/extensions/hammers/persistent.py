from persistent import Persistent, PickleCache
from persistent.TimeStamp import TimeStamp

from hammers.scenario import Scenario


class Thing(Persistent):
    def __init__(self):
        self.value = 0


class Jar:
    """What a database connection is to its objects."""

    def __init__(self):
        self.cache = PickleCache(self, 20)
        self.oids = [i.to_bytes(8, "big") for i in range(100)]
        for i, oid in enumerate(self.oids):
            thing = Thing.__new__(Thing)
            self.cache.new_ghost(oid, thing)
            setattr(self, f"keep_{i}", thing)
        self.things = [getattr(self, f"keep_{i}") for i in range(100)]

    def setstate(self, thing):
        thing.__setstate__({"value": int.from_bytes(thing._p_oid, "big")})

    def register(self, thing):
        pass


class Attributes(Scenario):
    """One object, an attribute for each thread: each counts right."""

    def prepare(self):
        self.thing = Thing()
        for me in range(self.threads):
            setattr(self.thing, f"count_{me}", 0)
        self.counts = [0] * self.threads

    def step(self, me, random):
        thing, name = self.thing, f"count_{me}"
        for _ in range(60):
            setattr(thing, name, getattr(thing, name) + 1)
            thing._p_changed = False
            thing.value = me
        self.counts[me] += 60

    def check(self):
        assert [getattr(self.thing, f"count_{me}") for me in range(self.threads)] == self.counts


class Cache(Scenario):
    """Objects of one cache come and go: who has state is in its ring, once, and has the right state."""

    def prepare(self):
        self.jar = Jar()

    def step(self, me, random):
        things = self.jar.things
        for _ in range(15):
            i = random.randrange(100)
            try:
                assert things[i].value == i
            except AttributeError:
                pass  # another thread has made it a ghost in between
            things[random.randrange(100)]._p_deactivate()
        if random.random() < 0.05:
            self.jar.cache.incrgc()

    def check(self):
        cache = self.jar.cache
        alive = [thing for thing in self.jar.things if thing._p_changed is not None]
        ring = [thing for _, thing in cache.lru_items()]
        assert len(ring) == len(alive) == cache.cache_non_ghost_count
        assert {id(thing) for thing in ring} == {id(thing) for thing in alive}
        assert all(thing.value == i for i, thing in enumerate(self.jar.things))


class Own(Scenario):
    """One cache, each thread with objects of its own, which others' collections turn into ghosts."""

    def prepare(self):
        self.jar = Jar()

    def step(self, me, random):
        things = self.jar.things
        for _ in range(15):
            i = random.randrange(100 // self.threads) * self.threads + me
            thing = things[i]
            thing._p_activate()
            thing._p_deactivate()
        if random.random() < 0.05:
            self.jar.cache.minimize()

    check = Cache.check


class Times(Scenario):
    """Time stamps that all threads compare and take apart."""

    def prepare(self):
        self.stamps = [TimeStamp(2000 + i, 1 + i % 12, 3, 4, 5, i / 2) for i in range(60)]

    def step(self, me, random):
        i, j = random.randrange(60), random.randrange(60)
        for _ in range(15):
            stamp, other = self.stamps[i], self.stamps[j]
            assert (stamp < other) == (i < j) and stamp.year() == 2000 + i
            assert hash(TimeStamp(stamp.raw())) == hash(stamp) and stamp.laterThan(stamp) > stamp


class Separate(Scenario):
    """An object for each thread."""

    def prepare(self):
        self.things = [None] * self.threads

    def begin(self, me):
        self.things[me] = Thing()

    def step(self, me, random):
        thing = self.things[me]
        before = thing.value
        for _ in range(300):
            thing.value += 1
        assert thing.value == before + 300
