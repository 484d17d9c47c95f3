"""What one thread's transaction has written and may take back is not what another one goes by, in C code that reads memory of a
kind that mostly stays as it is, or calls the system: ame python run tests/cpython/uncommitted.py

Names of cases as arguments run only these, in this process.
"""

import _imp
import _string
import _tokenize
import importlib.machinery
import mmap
import os
import random
import sys
import threading
import time

import ame
import cases

SECONDS = 60


def spin(n):
    for _ in range(n):
        pass


def interned_strings():
    """Who interns a string gets the one that everybody gets, also when another transaction that has interned it is rolled
    back, and interns an equal one when it runs again."""
    for number in range(1000):
        pair = [[f"<{i} of " + str(number) for i in range(30)] for _ in range(2)]
        begin, got = threading.Barrier(2), []

        def first():
            begin.wait()
            with ame.atomic:
                # Another one in each attempt, or not.
                for string in pair[time.perf_counter_ns() // 64 % 2]:
                    sys.intern(string)
                spin(1000)

        def second():
            begin.wait()
            spin(random.randrange(2000))
            got.extend(sys.intern(string) for string in pair[0])

        cases.beside(first, second)
        assert all(string is sys.intern(f"<{i} of " + str(number)) for i, string in enumerate(got)), number


def hashes_of(memory, hash_of):
    """Each is the hash of what was there between two steps of the writer."""
    half = len(memory) // 2
    want = {hash_of(bytes([i]) * len(memory)) for i in range(256)}
    stop, wrong = threading.Event(), []

    def write():
        for i in range(5000):
            value = bytes([i % 256]) * half
            with ame.atomic:
                memory[:half] = value
                spin(20)
                memory[half:] = value
        stop.set()

    def read():
        while not stop.is_set():
            if hash_of(memory) not in want:
                wrong.append(bytes(memory[::half]))

    cases.beside(read, write)
    assert not wrong, (len(wrong), wrong[:3])


def hashes_of_views():
    hashes_of(mmap.mmap(-1, 256), lambda memory: hash(memoryview(memory).toreadonly()))


def hashes_of_sources():
    hashes_of(bytearray(256), lambda memory: _imp.source_hash(1, memory))


def tokens():
    """An iterator over tokens hands out each once, to two threads as to one."""
    lines = [f"x{i} = (y{i} + {i}) * '{i}'\n" for i in range(400)]

    def make():
        return _tokenize.TokenizerIter(iter([*lines, ""]).__next__, extra_tokens=True)

    want = sorted(make())
    for _ in range(30):
        it, got = make(), ([], [])
        cases.beside(*(lambda mine=mine: mine.extend(it) for mine in got))
        assert sorted(got[0] + got[1]) == want


def parts_of_formats():
    """As tokens."""
    text = "".join(f"a{i}{{x{i}}}" for i in range(3000))
    want = sorted(map(repr, _string.formatter_parser(text)))
    for _ in range(30):
        it, got = _string.formatter_parser(text), ([], [])
        cases.beside(*(lambda mine=mine: mine.extend(it) for mine in got))
        assert sorted(map(repr, got[0] + got[1])) == want


def modules():
    """One that two threads execute is executed once."""
    for name, attribute in (("errno", "ENOENT"), ("itertools", "zip_longest"), ("_functools", "partial")):
        spec = importlib.machinery.BuiltinImporter.find_spec(name)
        for _ in range(300):
            module, begin, found = _imp.create_builtin(spec), threading.Barrier(2), []

            def execute():
                begin.wait()
                _imp.exec_builtin(module)
                found.append(hasattr(module, attribute))

            cases.beside(execute, execute)
            assert found == [True, True], (name, found)


def mask_of_files():
    """What is set for the process and put back is what it was, also if the block runs again."""
    before, objects, wrong, ended = os.umask(0o22), [[0] for _ in range(50)], [], []

    def set_it():
        for _ in range(20_000):
            with ame.atomic:
                old = os.umask(0o77)
                for each in objects:
                    each[0] += 1
                os.umask(old)
            if old != 0o22:
                wrong.append(old)
        ended.append(1)

    def be_in_its_way():
        while not ended:
            with ame.atomic:
                for each in reversed(objects):
                    each[0] += 1

    cases.beside(set_it, be_in_its_way)
    assert os.umask(before) == 0o22 and not wrong, len(wrong)


def pages():
    """That one thread gives back, another one does not read."""
    size = 16 << 20
    memory, ended = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), []

    def resize():
        for _ in range(5000):
            memory.resize(4096)
            memory.resize(size)
        ended.append(1)

    def read():
        while not ended:
            assert memory.find(b"x") == -1

    cases.beside(resize, read)


CASES = [interned_strings, hashes_of_views, hashes_of_sources, tokens, parts_of_formats, modules, mask_of_files, pages]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}, {"AME_ALWAYS": "1", "AME_CHAOS": "1,0.002"}))
