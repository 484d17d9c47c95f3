"""Atomic blocks: what happens in one is a single step for all other threads.

    with ame.atomic:
        accounts[a] -= n
        accounts[b] += n

On AME CPython blocks run in parallel as transactions, and the interpreter rolls back and repeats
what conflicts. On any other Python a lock stands in: then the promise holds between atomic blocks.

Where a program is not parallel, `conflicts()` says why:

    for c in ame.conflicts()[:5]:
        print(c)

`AME_LOG=file python app.py`, then `ame report file`, says the same of a whole run, and more.
"""

import collections
import functools
import inspect
import os
import threading

try:
    import _ame
except ImportError:
    _ame = None

__all__ = ["atomic", "is_atomic", "inevitable", "commit_soon", "stats", "thread_stats", "conflicts",
           "watch", "parallel", "Conflict", "Place", "Object"]

#: Whether threads of this interpreter run in parallel as transactions.
parallel = _ame is not None

if parallel:
    class _Block(_ame.Block):
        """__enter__ and __exit__ are C code."""

        def _enter_again(self):
            # Between two calls the interpreter may begin a transaction that can be rolled back, and raise an exception
            # (of a signal) where the block has already begun.
            try:
                while not self._try():
                    pass
            except BaseException:
                if is_atomic():
                    self.__exit__(None, None, None)
                raise
            return self

    is_atomic, inevitable, commit_soon = _ame.is_atomic, _ame.inevitable, _ame.commit_soon

    def stats(everybody=True):
        """Counters of all threads together, also of those that have ended, or of the calling one.

        Transactions that were begun and committed; rollbacks by cause (aborts_conflict, aborts_chaos,
        retries); how many became inevitable and exclusive; waits for others. Time lost is ns_waiting
        and ns_aborted (work that was rolled back), in nanoseconds.
        """
        return _ame.stats(everybody)

    def thread_stats():
        """The same for each thread that has not ended: a dict by threading.Thread.native_id."""
        return dict(_ame.threads())

    def conflicts():
        """Who was in whose way so far: a list of Conflict, most time lost first, at most 256.

        It is a sample, taken by time lost. The other side is only known where that is an inevitable or
        exclusive transaction, or while watch() is on.
        """
        return [_conflict(*entry) for entry in _ame.conflicts()]

    def watch(on=True):
        """Note all accesses, so that conflicts() knows the other sides too. Programs are slower then."""
        _ame.watch(on)

else:
    class _Block(type(threading.RLock())):
        """__enter__ and __exit__ are C code, which no signal interrupts."""

    def is_atomic():
        """Whether the caller is in an atomic block."""
        return atomic._is_owned()

    def inevitable():
        """From here to its end the transaction is not rolled back. Nothing to do with a lock."""

    def commit_soon():
        """End the transaction at the next opportunity. Nothing to do with a lock."""

    def stats(everybody=True):
        """Of extension modules that `ame ext build` has compiled, where they have domains of their own (free-threaded
        Python): {"domains": {name: counters}}; else {}. All since the start:

        entries     times that the domain was held; contended: after waiting, in all for ns_waiting
        given_up    times that its holder gave it up in the middle
        elided      entries that were transactions to their end; serialised: that came to what cannot be undone, and
                    held the domain from there on; rolled_back: how often transactions began again
        trials      how often it was tried which is faster; won: of these, transactions were
        reasons     what serialised them, most frequent first: [(entry, why, how often)]
        """
        domains = _domains()
        return {"domains": domains} if domains else {}

    def _domains():
        import ctypes

        class Reason(ctypes.Structure):
            _fields_ = [("entry", ctypes.c_char_p), ("why", ctypes.c_char_p), ("count", ctypes.c_uint64)]

        try:
            # Only if an extension has loaded it.
            runtime = ctypes.CDLL("libame_rt.so", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        except (OSError, AttributeError):
            return {}
        pointer, number = ctypes.c_void_p, ctypes.c_uint64
        runtime.ame_domain_next.restype, runtime.ame_domain_next.argtypes = pointer, [pointer]
        runtime.ame_domain_name.restype, runtime.ame_domain_name.argtypes = ctypes.c_char_p, [pointer]
        runtime.ame_domain_counts.argtypes = runtime.ame_elision_counts.argtypes = [pointer, pointer]
        runtime.ame_elision_reasons.restype = ctypes.c_size_t
        runtime.ame_elision_reasons.argtypes = [pointer, pointer, ctypes.c_size_t]
        found = {}
        domain = runtime.ame_domain_next(None)
        while domain:
            held, elision, reasons = (number * 4)(), (number * 5)(), (Reason * 100)()
            runtime.ame_domain_counts(domain, held)
            runtime.ame_elision_counts(domain, elision)
            n = runtime.ame_elision_reasons(domain, reasons, len(reasons))
            if any(held) or any(elision):
                counts = dict(zip(_OF_DOMAINS, [*held, *elision]))
                counts["reasons"] = [(each.entry.decode(), each.why.decode(), each.count) for each in reasons[:n]]
                found[runtime.ame_domain_name(domain).decode()] = counts
            domain = runtime.ame_domain_next(domain)
        return found

    #: Fields of `struct ame_domain_counts` and `struct ame_elision_counts` of ame.h.
    _OF_DOMAINS = ("entries", "contended", "ns_waiting", "given_up",
                   "elided", "serialised", "rolled_back", "trials", "won")

    def thread_stats():
        """Counters of transactions: there are none."""
        return {}

    def conflicts():
        """Who was in whose way: with a lock nobody knows."""
        return []

    def watch(on=True):
        """Note all accesses. Nothing to do with a lock."""


class Place(collections.namedtuple("Place", "file line function within")):
    """A line of the program; `within` is where in a library that it called, or None."""

    __slots__ = ()

    def __str__(self):
        text = f"{self.file}:{self.line} in {self.function}"
        return f"{text} (in {self.within})" if self.within else text


class Object(collections.namedtuple("Object", "type part advice")):
    """What threads wanted at once: type of the object, what of it, and what may help (or "")."""

    __slots__ = ()

    def __str__(self):
        return f"{self.type}, {self.part}" if self.part else self.type


class Conflict(collections.namedtuple("Conflict",
                                      "where other object kind count rollbacks seconds")):
    """Conflicts of one kind between two places.

    where       Place of the side that waited, or None
    other       Place of the side in its way, or None when it is not known
    object      Object that both wanted, or the reason why the other ran alone; None when not known
    kind        one of KINDS
    count       how often it was waited for
    rollbacks   transactions that were rolled back for it
    seconds     time lost: waiting, and work thrown away
    """

    __slots__ = ()

    #: `where` wanted to read or write what `other` had written or read; waited for a transaction that
    #: could not be rolled back, or had to run alone; or was rolled back and nobody knows for whom.
    KINDS = ("read of written", "write of written", "write of read", "wait for inevitable",
             "wait for exclusive", "rolled back")

    def __str__(self):
        text = f"{self.seconds * 1000:.3g} ms lost: {self.object or 'unknown memory'}; at {self.where}"
        if self.other not in (None, self.where):
            text += f", against {self.other}"
        return f"{text} ({self.kind}; waits: {self.count}, rollbacks: {self.rollbacks})"


def _conflict(where, other, thing, access, count, rollbacks, ns):
    return Conflict(where and Place(*where), other and Place(*other), Object(*thing) if thing[0] else None,
                    Conflict.KINDS[access], count, rollbacks, ns / 1e9)


class _Atomic(_Block):
    """Context manager and decorator. Blocks nest; the outermost one counts."""

    def __call__(self, function):
        if not callable(function):
            raise TypeError(f"ame.atomic decorates functions, not {function!r}")
        if (inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function)
                or inspect.isasyncgenfunction(function)):
            raise TypeError(f"{function.__qualname__}() is a generator or a coroutine: it would run outside the block; "
                            "use `with ame.atomic:` in it, around what is one step")

        @functools.wraps(function)
        def atomically(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return atomically

    def __repr__(self):
        return "ame.atomic"


atomic = _Atomic()

if not parallel and hasattr(os, "register_at_fork"):
    # Nobody is in the middle of a block in the child.
    os.register_at_fork(before=atomic.acquire, after_in_parent=atomic.release, after_in_child=atomic.release)
