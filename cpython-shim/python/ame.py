"""Atomic blocks: what happens in one is a single step for all other threads.

    with ame.atomic:
        accounts[a] -= n
        accounts[b] += n

On AME CPython blocks run in parallel as transactions, and the interpreter rolls back and repeats
what conflicts. On any other Python a lock stands in: then the promise holds between atomic blocks.
"""

import functools
import threading

try:
    import _ame
except ImportError:
    _ame = None

__all__ = ["atomic", "is_atomic", "inevitable", "commit_soon", "stats", "parallel"]

#: Whether threads of this interpreter run in parallel as transactions.
parallel = _ame is not None

if parallel:
    _enter, _leave = _ame.enter, _ame.leave
    is_atomic, inevitable, commit_soon = _ame.is_atomic, _ame.inevitable, _ame.commit_soon

    def stats(everybody=True):
        """Counters of all threads together, or of the calling one."""
        return _ame.stats(everybody)

else:
    _lock = threading.RLock()
    _depth = threading.local()

    def _enter(block):
        _lock.acquire()
        _depth.value = getattr(_depth, "value", 0) + 1
        return True

    def _leave():
        if not is_atomic():
            raise RuntimeError("leave() outside an atomic block")
        _depth.value -= 1
        _lock.release()

    def is_atomic():
        """Whether the caller is in an atomic block."""
        return getattr(_depth, "value", 0) > 0

    def inevitable():
        """From here to its end the transaction is not rolled back. Nothing to do with a lock."""

    def commit_soon():
        """End the transaction at the next opportunity. Nothing to do with a lock."""

    def stats(everybody=True):
        """Counters of transactions: there are none."""
        return {}


class _Atomic:
    """Context manager and decorator. Blocks nest; the outermost one counts."""

    def __enter__(self):
        # Between two calls the interpreter may begin a transaction that can be rolled back.
        while not _enter(self):
            pass
        return self

    def __exit__(self, kind, value, traceback):
        _leave()

    def __call__(self, function):
        @functools.wraps(function)
        def atomically(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return atomically

    def __repr__(self):
        return "ame.atomic"


atomic = _Atomic()
