"""Locks in atomic blocks: ame python run tests/cpython/atomic_locks.py

A lock that somebody else will release is waited for (the block runs again, as if it had come later); one that can
never be granted raises RuntimeError. Nothing hangs: each case runs in a process of its own, for ten seconds
at most. Names of cases as arguments run only these, in this process.
"""

import gc
import os
import queue
import signal
import sys
import threading
import time

import ame
import cases

SECONDS = 10


def start(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def refused(function, *arguments, text="atomic block"):
    """The call raises the error that says why it would wait for ever."""
    try:
        with ame.atomic:
            function(*arguments)
    except RuntimeError as error:
        assert text in str(error), error
    else:
        raise AssertionError("not refused")
    assert not ame.is_atomic()


class Holder:
    """Another thread that has taken a lock, and gives it back after a while, or when it is told to."""

    def __init__(self, lock, seconds=None):
        self.lock, self.seconds = lock, seconds
        self.ready, self.told = threading.Event(), threading.Event()
        self.released = False
        self.thread = start(self.run)
        self.ready.wait()

    def run(self):
        with self.lock:
            self.ready.set()
            if self.seconds is None:
                self.told.wait()
            else:
                time.sleep(self.seconds)
            self.released = True


def own_lock():
    for lock in (threading.Lock(),):
        with lock:
            refused(lock.acquire)
        refused(lambda: (lock.acquire(), lock.acquire()))
        # The block's own acquire() stays, as anywhere.
        assert lock.locked()


def own_lock_beside_others():
    told = threading.Event()
    other = start(told.wait)
    lock = threading.Lock()
    refused(lambda: (lock.acquire(), lock.acquire()), text="itself has taken")
    lock.release()
    # Taken before the block, and all others wait as well.
    lock.acquire()
    refused(lock.acquire, text="all other threads wait")
    lock.release()
    told.set()
    other.join()


def waits_for_a_holder():
    for make in (threading.Lock, threading.RLock):
        lock = make()
        holder = Holder(lock, 0.2)
        runs = 0
        with ame.atomic:
            runs += 1
            with lock:
                assert holder.released
        assert runs == 1, "what was rolled back counts"
        assert lock.acquire(blocking=False)


def released_by_another_thread():
    """Whoever took it: another thread may release it."""
    lock = threading.Lock()
    lock.acquire()

    def release():
        time.sleep(0.2)
        lock.release()

    start(release)
    with ame.atomic:
        lock.acquire()
    assert lock.locked()


def several_locks():
    first, second = threading.RLock(), threading.Lock()
    for _ in range(3):
        holder = Holder(second, 0.1)
        with ame.atomic:
            with first, second:
                pass
            with first, second:
                assert holder.released
        assert not second.locked()


def holder_that_waits_for_us():
    lock = threading.Lock()
    holder = Holder(lock)
    refused(lock.acquire, text="all other threads wait")
    holder.told.set()
    with ame.atomic:
        lock.acquire()
    assert holder.released
    lock.release()


def after_an_effect():
    """What has been printed cannot be rolled back."""
    lock = threading.Lock()
    holder = Holder(lock, 1)
    refused(lambda: (os.write(sys.stderr.fileno(), b""), lock.acquire()), text="rolled back")
    with ame.atomic:
        lock.acquire()
    assert holder.released


def with_timeout():
    for lock in (threading.Lock(), threading.RLock()):
        holder = Holder(lock, 0.3)
        with ame.atomic:
            assert not lock.acquire(timeout=0.01)
            assert not lock.acquire(blocking=False)
        holder.thread.join()
        with ame.atomic:
            assert lock.acquire(timeout=0.01)


def waits_that_others_cannot_end():
    told = threading.Event()
    thread = start(told.wait)
    simple, full = queue.SimpleQueue(), queue.Queue()
    condition, event, semaphore = threading.Condition(), threading.Event(), threading.Semaphore(0)

    def wait():
        with condition:
            condition.wait()

    for _ in range(2):
        refused(wait)
        refused(event.wait)
        refused(semaphore.acquire)
        refused(simple.get)
        refused(full.get)
        refused(thread.join)
        with ame.atomic:
            assert not event.wait(0.01)
            thread.join(0.01)
            for each in (simple, full):
                try:
                    each.get(timeout=0.01)
                except queue.Empty:
                    pass
    # Nothing is left over of them.
    with condition:
        condition.notify_all()
    full.put(1)
    simple.put(2)
    semaphore.release()
    with ame.atomic:
        assert (full.get(), simple.get()) == (1, 2)
        semaphore.acquire()
    told.set()
    thread.join()
    with ame.atomic:
        thread.join()


def wakes_at_the_end():
    """What a block releases, sets or puts wakes others when it is over."""
    event, jobs, done = threading.Event(), queue.Queue(), queue.SimpleQueue()
    lock = threading.Lock()
    lock.acquire()

    def work():
        event.wait()
        done.put(jobs.get())
        with lock:
            done.put("lock")

    thread = start(work)
    time.sleep(0.1)
    with ame.atomic:
        event.set()
        jobs.put("job")
        lock.release()
        assert not lock.locked()
        lock.acquire()
        lock.release()
    thread.join()
    assert [done.get(), done.get()] == ["job", "lock"]


def collected():
    """A lock that a block has released and a collection frees in it: at the block's end its memory is somebody else's."""

    class Cycle:
        def __init__(self):
            self.me, self.lock = self, threading.Lock()
            self.file = open(os.devnull, "rb")

    for _ in range(10):
        cycles = [Cycle() for _ in range(3)]
        first = float(1 << 52)
        with ame.atomic:
            for cycle in cycles:
                with cycle.lock:
                    cycle.file.read(1)
                cycle.file.close()
            del cycles[:], cycle
            gc.collect()
            # As large as the locks, at each place where one can be; odd where a lock is released.
            numbers = [first + i for i in range(1, 20000, 2)]
            count = sys.getrefcount(numbers[0])
        assert all(number == first + i for number, i in zip(numbers, range(1, 20000, 2)))
        assert {sys.getrefcount(numbers[i]) for i in range(len(numbers))} == {count}


def effects():
    """Sleeping and writing in a block work, and nobody gets in between."""
    stop, seen, shared = threading.Event(), [], [0, 0]

    def look():
        while not stop.is_set():
            with ame.atomic:
                seen.append(shared[0] == shared[1])

    thread = start(look)
    for _ in range(5):
        with ame.atomic:
            shared[0] += 1
            time.sleep(0.02)
            print("", end="", flush=True)
            shared[1] += 1
    stop.set()
    thread.join()
    assert all(seen)


def crowd():
    """Many threads, locks in and outside of blocks: nothing is lost."""
    locks = [threading.Lock(), threading.RLock(), threading.Lock()]
    counts = [0] * len(locks)

    def work(seed):
        for i in range(300):
            a = (seed + i) % len(locks)
            b = (a + 1 + i % 2) % len(locks)
            if i % 3 == 0:
                with locks[a]:
                    counts[a] += 1
            else:
                with ame.atomic, locks[a]:
                    counts[a] += 1
                    with locks[b]:
                        counts[b] += 1

    threads = [start(work, seed) for seed in range(4)]
    for thread in threads:
        thread.join()
    assert sum(counts) == 4 * (100 + 2 * 200), counts
    assert all(lock.acquire(blocking=False) for lock in locks)


def busy_file():
    """A block that cannot be rolled back does not wait for who writes to a file."""
    with open("/dev/null", "w") as file:
        stop, refusals = threading.Event(), []

        def write():
            while not stop.is_set():
                print("x" * 1000, file=file, flush=True)

        writer = start(write)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            try:
                with ame.atomic:
                    os.stat(".")
                    print("block", file=file, flush=True)
            except RuntimeError as error:
                assert "atomic block" in str(error), error
                refusals.append(error)
        stop.set()
        writer.join()


def thread_that_ends_in_a_block():
    lock, keep = threading.Lock(), []
    lock.acquire()

    def block():
        with ame.atomic:
            lock.release()
            yield

    def run():
        generator = block()
        next(generator)
        keep.append(generator)

    start(run).join()
    assert lock.acquire(timeout=5)
    start(lock.release).join()
    try:
        keep[0].close()
    except RuntimeError as error:
        assert "outside an atomic block" in str(error), error
    else:
        raise AssertionError("the block has not ended with its thread")


def threads_are_not_started():
    ran = []
    refused(threading.Thread(target=ran.append, args=(1,)).start, text="start a thread inside an atomic block")
    time.sleep(0.1)
    assert not ran and threading.active_count() == 1, ran


def interrupted_begin():
    """A signal that comes while a block begins does not leave the thread in it."""
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    signal.signal(signal.SIGALRM, stop)
    ended = []

    def be_in_its_way():
        while not ended:
            with ame.atomic:
                pass

    other = start(be_in_its_way)
    for _ in range(1500):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while True:
                with ame.atomic:
                    pass
        except Stop:
            pass
        assert not ame.is_atomic()
    ended.append(1)
    other.join()


def decorated():
    async def coroutine():
        pass

    def generator():
        yield

    for wrong in (coroutine, generator, property(len)):
        try:
            ame.atomic(wrong)
        except TypeError:
            continue
        raise AssertionError(wrong)
    assert ame.atomic(ame.is_atomic)()


CASES = [own_lock, own_lock_beside_others, waits_for_a_holder, released_by_another_thread, several_locks,
         holder_that_waits_for_us, after_an_effect, with_timeout, waits_that_others_cannot_end,
         wakes_at_the_end, collected, effects, crowd, busy_file, thread_that_ends_in_a_block,
         threads_are_not_started, interrupted_begin, decorated]


def main():
    if not ame.parallel and not sys.argv[1:]:
        print("atomic_locks: for AME CPython only; here a lock stands in", file=sys.stderr)
        return 2
    return cases.main(CASES, SECONDS, {"AME_ALWAYS": "0"}, {"AME_ALWAYS": "1"})


if __name__ == "__main__":
    sys.exit(main())
