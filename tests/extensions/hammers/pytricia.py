import ipaddress

from pytricia import PyTricia

from hammers.scenario import Scenario


def prefix(number, length=24):
    return f"10.{number >> 8 & 255}.{number & 255}.0/{length}"


class Disjoint(Scenario):
    """One trie, each thread with prefixes of its own: at the end it holds exactly theirs."""

    def prepare(self):
        self.trie = PyTricia()
        self.kept = [{} for _ in range(self.threads)]

    def step(self, me, random):
        trie, kept = self.trie, self.kept[me]
        for _ in range(15):
            number = random.randrange(500) * self.threads + me
            key = prefix(number)
            if key in kept and random.random() < 0.5:
                trie.delete(key)
                del kept[key]
            else:
                trie.insert(key, (key, me))
                kept[key] = (key, me)
            found = trie.get(f"10.{number >> 8 & 255}.{number & 255}.77")
            assert found == kept.get(key), (found, kept.get(key))

    def check(self):
        expected = {key: value for each in self.kept for key, value in each.items()}
        assert len(self.trie) == len(expected)
        assert {key: self.trie[key] for key in self.trie.keys()} == expected


class Overlapping(Scenario):
    """One trie, the same nested prefixes for all threads: a lookup finds a prefix that holds the address."""

    def prepare(self):
        self.trie = PyTricia()
        self.trie.insert("0.0.0.0/0", "0.0.0.0/0")
        self.networks = {}

    def network(self, text):
        found = self.networks.get(text)
        if found is None:
            found = self.networks[text] = ipaddress.ip_network(text)
        return found

    def step(self, me, random):
        trie = self.trie
        for _ in range(10):
            number = random.randrange(256)
            key = f"10.0.{number}.0/{random.choice((22, 23, 24))}"
            key = str(ipaddress.ip_network(key, strict=False))
            if random.random() < 0.4:
                try:
                    trie.delete(key)
                except KeyError:
                    pass
            else:
                trie.insert(key, key)
            address = f"10.0.{random.randrange(256)}.5"
            found = trie.get(address)
            assert ipaddress.ip_address(address) in self.network(found), (address, found)

    def check(self):
        keys = self.trie.keys()
        assert len(keys) == len(self.trie) == len(set(keys))
        assert all(self.trie[key] == key for key in keys)


class Separate(Scenario):
    """A trie for each thread, and strings of its own."""

    def prepare(self):
        self.own = [None] * self.threads

    def begin(self, me):
        self.own[me] = PyTricia(), [(prefix(number), f"10.0.{number}.7") for number in range(64)]

    def step(self, me, random):
        trie, keys = self.own[me]
        for key, _ in keys:
            trie.insert(key, key)
        for key, address in keys:
            assert trie.get(address) == key
        for key, _ in keys:
            trie.delete(key)
