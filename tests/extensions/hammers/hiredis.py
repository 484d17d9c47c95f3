import hiredis

from hammers.scenario import Scenario


class Replies(Scenario):
    """One Reader, which all threads feed with whole replies and read: each comes out once, as it was."""

    def prepare(self):
        self.reader = hiredis.Reader()
        self.fed = [0] * self.threads
        self.got = [0] * self.threads
        self.sums = [[0, 0] for _ in range(self.threads)]

    def step(self, me, random):
        reader, sums = self.reader, self.sums[me]
        for _ in range(20):
            number = random.randrange(1000000)
            text = b"%d" % number
            reader.feed(b"*3\r\n:%d\r\n$%d\r\n%s\r\n+OK\r\n" % (number, len(text), text))
            self.fed[me] += 1
            sums[0] += number
            self.take(reader.gets(), me)

    def take(self, reply, me):
        if reply is False:
            return False
        number, text, status = reply
        assert int(text) == number and status == b"OK", reply
        self.got[me] += 1
        self.sums[me][1] += number
        return True

    def check(self):
        while self.take(self.reader.gets(), 0):
            pass
        assert sum(self.fed) == sum(self.got), (sum(self.fed), sum(self.got))
        assert sum(each[0] for each in self.sums) == sum(each[1] for each in self.sums)


class Commands(Scenario):
    """Packed commands, which have no state in common."""

    def step(self, me, random):
        for i in range(40):
            text = f"{me} {i}"
            expected = f"*3\r\n$3\r\nSET\r\n${len(text)}\r\n{text}\r\n$1\r\n{i % 10}\r\n".encode()
            assert hiredis.pack_command(("SET", text, i % 10)) == expected


class Separate(Scenario):
    """A Reader for each thread."""

    def prepare(self):
        self.own = [None] * self.threads

    def begin(self, me):
        self.own[me] = hiredis.Reader(), b"".join(b"*2\r\n:%d\r\n$5\r\nhello\r\n" % i for i in range(60))

    def step(self, me, random):
        reader, data = self.own[me]
        reader.feed(data)
        for i in range(60):
            assert reader.gets() == [i, b"hello"]
        assert reader.gets() is False
