import immutables

from hammers.scenario import Scenario


class Mutation(Scenario):
    """One MapMutation, each thread with keys of its own: at the end it holds what each has put there last."""

    def prepare(self):
        self.mutation = immutables.Map().mutate()
        self.kept = [{} for _ in range(self.threads)]

    def step(self, me, random):
        mutation, kept = self.mutation, self.kept[me]
        for _ in range(30):
            key = random.randrange(256) * self.threads + me
            if random.random() < 0.3:
                assert (mutation.pop(key, None)) == kept.pop(key, None)
            else:
                mutation[key] = kept[key] = (me, random.random())
            other = random.randrange(256)
            key = other * self.threads + me
            assert mutation.get(key) == kept.get(key)

    def check(self):
        expected = {key: value for each in self.kept for key, value in each.items()}
        done = self.mutation.finish()
        assert len(done) == len(expected)
        assert dict(done.items()) == expected


class Overlapping(Scenario):
    """One MapMutation, all threads with the same keys: each value belongs to its key."""

    def prepare(self):
        self.mutation = immutables.Map().mutate()

    def step(self, me, random):
        mutation = self.mutation
        for _ in range(40):
            key = f"key {random.randrange(200)}"
            if random.random() < 0.3:
                mutation.pop(key, None)
            else:
                mutation[key] = (key, me)
            found = mutation.get(key)
            assert found is None or found[0] == key

    def check(self):
        done = self.mutation.finish()
        items = list(done.items())
        assert len(items) == len(done) == len({key for key, _ in items})
        assert all(key == value[0] and done[key] == value for key, value in items)


class Derived(Scenario):
    """Maps made from one shared map, which stays as it was."""

    def prepare(self):
        self.base = immutables.Map({f"key {i}": i for i in range(1000)})
        self.hash = hash(immutables.Map(dict(self.base.items())))

    def step(self, me, random):
        own = self.base
        for _ in range(20):
            i = random.randrange(1000)
            own = own.set(f"key {i}", i + 1).set(("own", me, i), i)
            assert own[f"key {i}"] == i + 1 and self.base[f"key {i}"] == i
        own = own.delete(("own", me, i))
        assert ("own", me, i) not in own

    def check(self):
        assert len(self.base) == 1000 and hash(self.base) == self.hash
        assert all(self.base[f"key {i}"] == i for i in range(1000))


class Separate(Scenario):
    """Maps of each thread."""

    def prepare(self):
        self.maps = [immutables.Map() for _ in range(self.threads)]

    def step(self, me, random):
        own = immutables.Map()
        for i in range(60):
            own = own.set(i, i)
        for i in range(60):
            assert own[i] == i
        self.maps[me] = own
