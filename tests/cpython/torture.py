"""Two threads do all that Python can to the same objects for some seconds, and look at them all the time.

    ame python run tests/cpython/torture.py 60 [SEED]
    PYTHONPATH=cpython-shim/python python3 tests/cpython/torture.py 60      # any other Python

Whatever is looked at in an atomic block must fit together. At the end reference counts must be what
the objects that are left explain. Prints what each kind of step was done, and fails with the first
thing that does not fit.
"""

import collections
import gc
import io
import itertools
import random
import sys
import threading
import time
import traceback
import weakref

import ame

THREADS = 2
TOKENS = 200
ACCOUNTS = 40
MONEY = 100 * ACCOUNTS


class Token:
    """Lies in exactly one of the containers at any time."""

    def __init__(self, number):
        self.number = number


class Pair:
    """left + right is 0. Attributes come and go."""

    def __init__(self):
        self.left = self.right = 0


class Slots:
    __slots__ = ("low", "high", "__weakref__")

    def __init__(self):
        self.low, self.high = 0, 1000


class Node:
    """Part of rings, which only the collector can free."""

    alive = 0

    def __init__(self, ring):
        self.ring = ring
        self.next = self


class Closing:
    """Part of a ring, with a finalizer that takes a lock."""

    made = closed = 0
    lock = threading.Lock()

    def __init__(self):
        self.me = self

    def __del__(self):
        with Closing.lock:
            Closing.closed += 1


def count_up():
    number = 0
    while True:
        number += 1
        yield number


def twins():
    """Two closures over the same variables, which are equal."""
    one = other = 0

    def advance(n):
        nonlocal one, other
        one += n
        other += n

    def look():
        return one, other

    return advance, look


class Shared:
    def __init__(self):
        self.accounts = {f"account{i}": 100 for i in range(ACCOUNTS)}
        self.names = ACCOUNTS
        self.tokens = [Token(i) for i in range(TOKENS)]
        self.list = list(self.tokens)
        self.set = set()
        self.deque = collections.deque()
        self.dict = {}
        self.pairs = [Pair() for _ in range(8)]
        self.slots = [Slots() for _ in range(8)]
        self.advance, self.look = twins()
        self.numbers = count_up()
        self.given_out = 0
        self.zip = zip(itertools.count(), itertools.count())
        self.zipped = 0
        self.buffer = io.BytesIO()
        self.frames = collections.deque(maxlen=20)
        self.weak = weakref.WeakValueDictionary()
        self.text = ""
        self.steps = 0


class Failed(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failed(*what)


class Worker:
    def __init__(self, shared, seed, index):
        self.shared, self.index = shared, index
        self.random = random.Random(seed * 1000 + index)
        self.done = collections.Counter()
        # A generator of this thread that goes on from transaction to transaction.
        self.walk = self.walker()
        self.last = 0
        self.own_numbers = 0

    # Each step is a method; all between `with ame.atomic` and its end is one step for the others.

    def transfer(self):
        accounts, r = self.shared.accounts, self.random
        with ame.atomic:
            a, b = r.sample(list(accounts), 2)
            amount = r.randrange(accounts[a] + 1)
            accounts[a] -= amount
            accounts[b] += amount

    def rename_account(self):
        s = self.shared
        with ame.atomic:
            name = self.random.choice(list(s.accounts))
            s.accounts[f"account{s.names}"] = s.accounts.pop(name)
            s.names += 1

    def audit(self):
        accounts = self.shared.accounts
        with ame.atomic:
            total, n = sum(accounts.values()), len(accounts)
        check(total == MONEY and n == ACCOUNTS, "accounts", total, n)

    def move_token(self):
        s, r = self.shared, self.random
        with ame.atomic:
            source = r.randrange(4)
            token = None
            if source == 0 and s.list:
                token = s.list.pop(r.randrange(len(s.list)))
            elif source == 1 and s.set:
                token = s.set.pop()
            elif source == 2 and s.deque:
                token = s.deque.popleft() if r.random() < 0.5 else s.deque.pop()
            elif source == 3 and s.dict:
                token = s.dict.pop(r.choice(list(s.dict)))
            if token is None:
                return
            target = r.randrange(4)
            if target == 0:
                s.list.insert(r.randrange(len(s.list) + 1), token)
            elif target == 1:
                s.set.add(token)
            elif target == 2:
                (s.deque.append if r.random() < 0.5 else s.deque.appendleft)(token)
            else:
                s.dict[token.number] = token

    def count_tokens(self):
        s = self.shared
        with ame.atomic:
            where = [*s.list, *s.set, *s.deque, *s.dict.values()]
            keys = all(number == token.number for number, token in s.dict.items())
        check(keys and len(where) == TOKENS, "tokens", len(where))
        check(len({token.number for token in where}) == TOKENS, "a token twice")

    def sort_list(self):
        with ame.atomic:
            before = len(self.shared.list)
            self.shared.list.sort(key=lambda token: token.number)
            after = [token.number for token in self.shared.list]
        check(len(after) == before and after == sorted(after), "sort")

    def change_pair(self):
        pair, n = self.random.choice(self.shared.pairs), self.random.randrange(100)
        with ame.atomic:
            pair.left += n
            pair.right -= n
            extra = f"extra{self.random.randrange(50)}"
            if hasattr(pair, extra):
                delattr(pair, extra)
            else:
                setattr(pair, extra, extra)

    def look_at_pair(self):
        pair = self.random.choice(self.shared.pairs)
        with ame.atomic:
            left, right, rest = pair.left, pair.right, dict(pair.__dict__)
        check(left + right == 0, "pair", left, right)
        check(rest.pop("left") == left and rest.pop("right") == right, "pair's dictionary", rest)
        check(all(name == value for name, value in rest.items()), "pair's dictionary", rest)

    def change_slots(self):
        slots = self.random.choice(self.shared.slots)
        with ame.atomic:
            check(slots.high - slots.low == 1000, "slots", slots.low, slots.high)
            slots.low += 1
            slots.high += 1

    def closures(self):
        with ame.atomic:
            self.shared.advance(self.random.randrange(5))
            one, other = self.shared.look()
        check(one == other, "closures", one, other)

    def shared_generator(self):
        s = self.shared
        with ame.atomic:
            number = next(s.numbers)
            s.given_out += 1
            check(number == s.given_out, "generator", number, s.given_out)

    def walker(self):
        n = 0
        while True:
            try:
                got = yield n
                n += got
            except KeyError as error:
                n += error.args[0]

    def own_generator(self):
        if self.own_numbers == 0:
            next(self.walk)
        step = self.random.randrange(1, 5)
        have = self.walk.throw(KeyError(step)) if self.random.random() < 0.3 else self.walk.send(step)
        self.own_numbers += step
        check(have == self.own_numbers, "own generator", have, self.own_numbers)

    def delegation(self):
        def inner(n):
            for i in range(n):
                yield i
            return n

        def outer(n):
            result = yield from inner(n)
            yield result

        with ame.atomic:
            have = list(outer(20))
        check(have == [*range(20), 20], "yield from", have)

    def new_class(self):
        name = f"Made{self.random.randrange(30)}"
        fields = [f"f{i}" for i in range(self.random.randrange(1, 6))]

        def __init__(self, **values):
            for field in fields:
                setattr(self, field, values[field])

        made = type(name, (Pair,), {"__init__": __init__, "total": lambda self: sum(
            getattr(self, field) for field in fields)})
        values = {field: self.random.randrange(100) for field in fields}
        have = made(**values)
        check(have.total() == sum(values.values()), "new class")
        check(isinstance(have, Pair) and made.__name__ == name, "new class")
        made.kind = name
        check(have.kind == name, "attribute of a new class")

    def exceptions(self):
        depth = self.random.randrange(1, 20)

        def fall(n):
            if n == 0:
                raise ValueError(depth)
            try:
                fall(n - 1)
            finally:
                unwound.append(n)

        unwound = []
        try:
            with ame.atomic:
                fall(depth)
        except ValueError as error:
            check(error.args == (depth,), "exception", error.args)
            names = [frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)]
            check(names[1:] == ["fall"] * (depth + 1), "traceback", names)
        check(unwound == list(range(1, depth + 1)), "finally", unwound)
        check(not ame.is_atomic(), "still atomic")

    def rings(self):
        for _ in range(20):
            ring = [Node(None) for _ in range(self.random.randrange(1, 6))]
            for i, node in enumerate(ring):
                node.ring, node.next = ring, ring[(i + 1) % len(ring)]
            key = self.random.randrange(50)
            self.shared.weak[key] = ring[0]
            node = ring[0]
            for _ in ring:
                node = node.next
            check(node is ring[0], "ring")

    def look_at_weak(self):
        for key in range(50):
            node = self.shared.weak.get(key)
            if node is not None:
                check(node.ring[0] is node, "weak reference")

    def collect(self):
        gc.collect(self.random.choice((0, 0, 0, 1, 2)))

    def weak_callback(self):
        called = []
        slots = Slots()
        reference = weakref.ref(slots, called.append)
        check(reference() is slots, "weak reference")
        del slots
        check(reference() is None and called == [reference], "callback", called)

    def text(self):
        with ame.atomic:
            s = self.shared
            s.text = s.text[-2000:] + f"<{self.index}:{len(s.text)}>"
            text = s.text
        parts = text.split("<")[1:]
        check(all(part[1] == ":" and part.endswith(">") for part in parts), "text", text)

    def shared_iterator(self):
        """Its tuples stay what they are while it goes on."""
        s = self.shared
        one = next(s.zip)
        with ame.atomic:
            other = next(s.zip)
            s.zipped += 2
        check(one[0] == one[1] < other[0] == other[1], "zip", one, other)

    def buffer(self):
        """Threads append lines, and now and then empty it."""
        buffer, line = self.shared.buffer, b"<%d>" % self.random.randrange(1000) * 3 + b"\n"
        buffer.write(line)
        if self.random.random() < 0.1:
            with ame.atomic:
                value = buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
            for line in value.splitlines():
                check(line == line[:len(line) // 3] * 3, "buffer", line)

    def frames(self):
        """Of functions that have ended or still run, looked at and cleared by all."""
        def call(number, depth):
            text = str(number)
            frames.append(sys._getframe())
            return call(number + 1, depth - 1) if depth else len(text)

        frames = self.shared.frames
        call(self.random.randrange(1000), 3)
        for frame in self.random.sample(list(frames), 4):
            seen = dict(frame.f_locals)
            check("text" not in seen or seen["text"] == str(seen["number"]), "frame", seen)
            if self.random.random() < 0.1:
                try:
                    frame.clear()
                except RuntimeError:
                    pass  # It runs.

    def finalizers(self):
        for _ in range(20):
            Closing()
        with Closing.lock:
            Closing.made += 20

    def numbers(self):
        """Arithmetic in place, objects from free lists, big numbers."""
        total, exact, big = 0.0, 0, 1
        for i in range(200):
            total += i * 0.5
            exact += i
            big = big * 3 + i
        for i in reversed(range(200)):
            big, rest = divmod(big - i, 3)
            check(rest == 0, "division")
        check(total == exact / 2 and big == 1, "numbers", total, exact, big)

    def compile(self):
        names = [f"name{self.random.randrange(1000)}" for _ in range(5)]
        source = "\n".join(f"{name} = {i}" for i, name in enumerate(names))
        space = {}
        exec(source, space)
        check(space[names[-1]] == 4, "exec", names, space)
        check(all(sys.intern(name) == name for name in names), "intern")

    # Those of the second list make a transaction exclusive, so that nothing goes wrong beside them: rare.
    STEPS = (["transfer", "move_token"] * 6 + ["change_pair"] * 4 +
             ["audit", "look_at_pair", "change_slots", "closures", "shared_generator", "own_generator"] * 3 +
             ["shared_iterator", "buffer", "frames", "finalizers"] +
             ["count_tokens", "exceptions", "rings", "look_at_weak", "weak_callback", "text", "numbers",
              "delegation", "rename_account", "sort_list"] * 2) * 4 + ["new_class", "compile", "collect"]

    def run(self, until):
        while time.monotonic() < until:
            for _ in range(20):
                step = self.random.choice(self.STEPS)
                getattr(self, step)()
                self.done[step] += 1
                with ame.atomic:
                    self.shared.steps += 1


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    shared = Shared()
    workers = [Worker(shared, seed, i) for i in range(THREADS)]
    failures = []
    until = time.monotonic() + seconds

    def run(worker):
        try:
            worker.run(until)
        except BaseException:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=run, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    if not failures:
        try:
            last_look(shared, workers)
        except Failed:
            failures.append(traceback.format_exc())
    done = sum((worker.done for worker in workers), collections.Counter())
    print(f"{sum(done.values())} steps: " + ", ".join(f"{n} {what}" for what, n in sorted(done.items())))
    if ame.parallel:
        stats = ame.stats(True)
        print(", ".join(f"{stats[name]} {name}" for name in ("commits", "aborts_conflict",
                                                             "aborts_chaos", "inevitable", "exclusive")))
    print("\n".join(failures) if failures else "1 passed, 0 failed")
    return 1 if failures else 0


def last_look(shared, workers):
    for check_again in ("audit", "count_tokens", "look_at_pair"):
        getattr(workers[0], check_again)()
    check(shared.steps == sum(sum(worker.done.values()) for worker in workers), "steps lost",
          shared.steps)
    for worker in workers:
        worker.walk.close()
    shared.weak.clear()
    shared.frames.clear()
    gc.collect()
    check(Closing.made == Closing.closed, "finalizers", Closing.made, Closing.closed)
    check(next(shared.zip) == (shared.zipped,) * 2, "zip", shared.zipped)
    left = [one for one in gc.get_objects() if type(one) is Node]
    check(not left, "rings that nobody refers to", len(left))
    made = [one for one in Pair.__subclasses__()]
    check(not made, "classes that nobody refers to", made)
    # One reference from shared.tokens, one from a container, the loop's variable, the argument.
    for token in shared.tokens:
        have = sys.getrefcount(token)
        check(have == 4, "reference count of a token", have)
    for one in shared.pairs + shared.slots:
        have = sys.getrefcount(one)
        check(have == 4, f"reference count of a {type(one).__name__}", have)


if __name__ == "__main__":
    sys.exit(main())
