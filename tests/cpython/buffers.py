"""Objects that own a buffer and write to it where it is, used by two threads: ame python run tests/cpython/buffers.py

What each thread has written is there, once, whole and in its order. Names of cases as arguments run only these, in
this process.
"""

import functools
import io
import pickle
import sys
import threading
import xml.etree.ElementTree

import cases

SECONDS = 60
LINES = 50_000


def by_two(write):
    """Each of two threads writes its lines."""
    begin = threading.Barrier(2)

    def work(name):
        begin.wait()
        for i in range(LINES):
            write(f"<{name}{i:07d}>")

    cases.beside(*(functools.partial(work, name) for name in "ab"))


def check(text):
    words = text.split("<")[1:]
    for name in "ab":
        mine = [word for word in words if word[:1] == name]
        assert mine == [f"{name}{i:07d}>" for i in range(LINES)], (len(mine), mine[:3])
    assert len(words) == 2 * LINES and len(text) == 20 * LINES, (len(words), len(text))


def string_io():
    s = io.StringIO()
    by_two(s.write)
    check(s.getvalue())


def string_io_in_the_middle():
    """Not a writer any more, but an array, once it has been read."""
    s = io.StringIO("-")
    s.read()
    by_two(s.write)
    check(s.getvalue()[1:])


def bytes_io():
    b = io.BytesIO()
    by_two(lambda line: b.write(line.encode()))
    check(b.getvalue().decode())


def bytes_io_is_read():
    """Reads see whole writes, also of what was there before."""
    b = io.BytesIO(bytes(1000))
    stop = threading.Event()
    wrong = []

    def read():
        while not stop.is_set():
            seen = set(b.getvalue())
            if len(seen) != 1:
                wrong.append(seen)

    def write():
        for i in range(LINES):
            b.seek(0)
            b.write(bytes([i % 256]) * 1000)
        stop.set()

    cases.beside(read, write)
    assert not wrong, (len(wrong), wrong[0])


def byte_array():
    b = bytearray()
    by_two(lambda line: b.extend(line.encode()))
    check(b.decode())


def pickler():
    """Each dump() clears the buffer, so a result is that of one."""
    out = []

    class File:
        def write(self, data):
            out.append(bytes(data))

    p = pickle.Pickler(File())
    p.fast = True
    by_two(p.dump)
    check("".join(map(pickle.loads, out)))


def tree_builder():
    """Text that comes in pieces of one character is added to one bytes object."""
    parser = xml.etree.ElementTree.XMLParser()
    parser.feed("<r>")
    by_two(lambda line: parser.feed(f"{line[1:-1]};"))
    parser.feed("</r>")
    words = parser.close().text.split(";")
    check("".join(f"<{word}>" for word in words if word))


CASES = [string_io, string_io_in_the_middle, bytes_io, bytes_io_is_read, byte_array, pickler, tree_builder]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}))
