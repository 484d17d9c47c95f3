import datetime
import decimal
import fractions
import io
import ipaddress
import uuid

import cbor2

from hammers.scenario import Scenario

#: Each kind imports what it needs when it is first seen.
VALUES = [
    {"a": [1, 2.5, None, True], "b": b"bytes", "c": "text"},
    decimal.Decimal("12.34"), fractions.Fraction(3, 7), uuid.UUID(int=77),
    datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    ipaddress.ip_address("10.1.2.3"), ipaddress.ip_network("10.1.0.0/16"), {1, 2, 3}, 2 ** 80,
]


class Kinds(Scenario):
    """Values of all kinds, whose classes are looked up by whoever comes first."""

    def step(self, me, random):
        value = VALUES[random.randrange(len(VALUES))]
        assert cbor2.loads(cbor2.dumps(value, timezone=datetime.timezone.utc)) == value


class SharedDecoder(Scenario):
    """One decoder over a stream that all threads read: each item comes out once."""

    def prepare(self):
        self.count = 0
        self.rewind()

    def rewind(self):
        self.decoder = cbor2.CBORDecoder(io.BytesIO(b"".join(cbor2.dumps(i) for i in range(1000))))

    def step(self, me, random):
        for _ in range(10):
            try:
                assert 0 <= self.decoder.decode() < 1000
            except cbor2.CBORDecodeEOF:
                if me == 0:
                    self.rewind()
                return


class Separate(Scenario):
    """Values of each thread, there and back."""

    def prepare(self):
        self.value = {f"key {i}": [i, float(i), str(i)] for i in range(40)}

    def step(self, me, random):
        assert cbor2.loads(cbor2.dumps(self.value)) == self.value
