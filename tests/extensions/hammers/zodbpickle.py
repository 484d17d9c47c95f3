import io

from zodbpickle import pickle

from hammers.scenario import Scenario


class Chunks:
    """A file that keeps what is written to it."""

    def __init__(self):
        self.all = []

    def write(self, data):
        # `append` is one step, also of a free-threaded list.
        self.all.append(bytes(data))


class SharedPickler(Scenario):
    """One Pickler for all threads: each pickle is written once and whole, and loads as what was dumped."""

    def prepare(self):
        self.chunks = Chunks()
        self.pickler = pickle.Pickler(self.chunks, 3)
        self.pickler.fast = True
        self.dumped = [0] * self.threads

    def step(self, me, random):
        for _ in range(10):
            n = self.dumped[me]
            value = [me, n, {"text": f"{me} {n}", "list": list(range(n % 20))}, (1.5, b"bytes", None)]
            self.pickler.dump(value)
            self.dumped[me] += 1
        # No more than a while's worth in memory.
        if len(self.chunks.all) > 20000:
            self.look()

    def look(self):
        taken, self.chunks.all = self.chunks.all, []
        for chunk in taken:
            me, n, parts, rest = pickle.loads(chunk)
            assert parts == {"text": f"{me} {n}", "list": list(range(n % 20))}
            assert rest == (1.5, b"bytes", None)

    def check(self):
        self.look()


class SharedMemo(Scenario):
    """One Pickler with a memo, which threads clear meanwhile: each pickle has its beginning and end."""

    def prepare(self):
        self.chunks = Chunks()
        self.pickler = pickle.Pickler(self.chunks, 3)
        self.texts = [f"text {i}" for i in range(300)]

    def step(self, me, random):
        for _ in range(10):
            self.pickler.dump([self.texts[random.randrange(300)] for _ in range(10)])
        self.pickler.clear_memo()
        if len(self.chunks.all) > 20000:
            self.check()

    def check(self):
        taken, self.chunks.all = self.chunks.all, []
        assert all(chunk.startswith(b"\x80\x03") and chunk.endswith(b".") for chunk in taken)


class SharedUnpickler(Scenario):
    """One Unpickler over a file of many pickles: together the threads get each of them once."""

    COUNT = 400

    def prepare(self):
        self.got = []
        self.rewind()

    def rewind(self):
        data = b"".join(pickle.dumps((i, "x" * (i % 7)), 3) for i in range(self.COUNT))
        self.unpickler = pickle.Unpickler(io.BytesIO(data))

    def step(self, me, random):
        own = pickle.Unpickler(io.BytesIO(pickle.dumps(me)))
        assert own.load() == me
        for _ in range(8):
            try:
                i, text = self.unpickler.load()
            except EOFError:
                if me == 0:
                    self.rewind()
                return
            assert 0 <= i < self.COUNT and text == "x" * (i % 7)


class Separate(Scenario):
    """Values of each thread, there and back."""

    def prepare(self):
        self.values = [None] * self.threads

    def begin(self, me):
        self.values[me] = {f"key {i}": [i, (i, float(i)), str(i).encode()] for i in range(40)}

    def step(self, me, random):
        value = self.values[me]
        assert pickle.loads(pickle.dumps(value, 3)) == value
