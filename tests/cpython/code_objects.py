"""Code objects that threads make, run and trace at once: ame python run tests/cpython/code_objects.py

Names of cases as arguments run only these, in this process.
"""

import ctypes
import sys
import threading
import time

import cases

SECONDS = 60
TOOL = 3
monitoring = sys.monitoring


def compiled(number, lines):
    """A function of these lines, and a last one."""
    source = f"def f{number}(k):\n" + "".join(f"    {line}\n" for line in lines) + "    return k\n"
    names = {}
    exec(compile(source, f"file {number}", "exec"), names)
    return names[f"f{number}"]


def monitored(functions, argument, event, callback):
    """Two threads run the functions; the callback gets their events."""
    def work():
        for function in functions:
            function(argument)

    monitoring.use_tool_id(TOOL, "test")
    monitoring.register_callback(TOOL, event, callback)
    monitoring.set_events(TOOL, event)
    cases.beside(work, work)
    monitoring.set_events(TOOL, 0)
    monitoring.free_tool_id(TOOL)


def versions():
    """Calls tell functions by the version of their code."""
    def two(a, b):
        return a

    def more(a, b, *c):
        return c

    made = {two: [], more: []}
    cases.beside(*(lambda f=f: made[f].extend(f.__code__.replace() for _ in range(100_000)) for f in made))

    def version(code):
        """PyCodeObject.co_version of 3.13."""
        return ctypes.c_uint32.from_address(id(code) + 0x5c).value

    first, second = ({version(code) for code in codes} for codes in made.values())
    assert len(first) == 100_000
    assert not first & second, len(first & second)


def constants():
    """Making a code object puts interned strings into the tuple of constants that it is given."""
    code = versions.__code__
    for number in range(60):
        interned = [sys.intern(f"k{i}_x{number}") for i in range(1000)]
        tuples = [("".join([f"k{i}_", f"x{number}"]),) for i in range(1000)]
        kept = []

        def replace():
            for each in tuples:
                code.replace(co_consts=each)

        def read():
            for each, string in zip(tuples, interned):
                for _ in range(40):
                    kept.append(each[0])
                    if each[0] is string:
                        break

        cases.beside(replace, read)
        assert all(type(string) is str and string.endswith(f"_x{number}") for string in kept)


def lines_once():
    """Each line's event is seen, though the callback has it disabled."""
    for _ in range(15):
        functions = [compiled(i, [f"x{j} = sorted(k)" for j in range(40)]) for i in range(20)]
        seen = {f.__code__: set() for f in functions}

        def line(code, number):
            seen.get(code, set()).add(number)
            return monitoring.DISABLE

        monitored(functions, [1, 2], monitoring.events.LINE, line)
        assert all(numbers >= set(range(2, 43)) for numbers in seen.values()), [len(n) for n in seen.values()]


def calls_once():
    """Instructions go back to what they were, while other threads specialise their neighbours."""
    for _ in range(120):
        body = ["for _ in range(12):"] + [f"  x = k.copy(); y = k.count(1); z = k.index({i % 2})" for i in range(20)]
        functions = [compiled(i, body) for i in range(20)]
        counts = {}

        def call(code, offset, *_):
            if code.co_name[0] == "f":
                counts[offset] = counts.get(offset, 0) + 1
            return monitoring.DISABLE

        monitored(functions, [0, 1], monitoring.events.CALL, call)


def every_line():
    """Of every call, in threads that are now alone and now not."""
    def work(n):
        t = 0
        for i in range(n):
            t += i
        return t

    first, events, wrong = work.__code__.co_firstlineno, {}, []
    want = [first + 1] + [first + 2, first + 3] * 5 + [first + 2, first + 4]
    monitoring.use_tool_id(TOOL, "test")
    monitoring.register_callback(TOOL, monitoring.events.LINE, lambda _, n: events[threading.get_ident()].append(n))
    monitoring.set_local_events(TOOL, work.__code__, monitoring.events.LINE)
    end = time.monotonic() + 6

    def call(pauses):
        me = threading.get_ident()
        while time.monotonic() < end:
            for _ in range(300):
                events[me] = []
                work(5)
                if events[me] != want:
                    wrong.append(events[me])
            if pauses:
                time.sleep(0.004)

    cases.beside(lambda: call(False), lambda: call(True))
    assert not wrong, (len(wrong), wrong[0])


def locals_of_running_frames():
    """What a sampler or debugger does."""
    end = time.monotonic() + 5
    looks = [0]

    def inner():
        for i in range(5000):
            y = [i, i]
            z = {i: y}
            s = f"x{i}"
            y = None
            w = (z, s)
            z = None
        return w

    def run():
        while time.monotonic() < end:
            inner()

    runner = threading.Thread(target=run)
    runner.start()
    while time.monotonic() < end:
        frame = sys._current_frames().get(runner.ident)
        while frame is not None:
            if frame.f_code is inner.__code__:
                for _ in range(20):
                    repr(dict(frame.f_locals))
                    looks[0] += 1
            frame = frame.f_back
    runner.join()
    assert looks[0] > 100, looks


CASES = [versions, constants, lines_once, calls_once, every_line, locals_of_running_frames]

if __name__ == "__main__":
    sys.exit(cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"}, {"AME_ALWAYS": "1", "AME_CHAOS": "1,0.0005"}))
