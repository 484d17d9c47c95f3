"""Where results live: one folder per content hash below ${XDG_CACHE_HOME:-~/.cache}/ame.

A folder is complete when it holds the file `.complete`, written last. Anything else is the remains
of an interrupted run: it is removed and made again. A lock file keeps two runs apart.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

START = time.monotonic()
# What removes an unfinished line.
CLEAR = "\r\x1b[K" if sys.stderr.isatty() else ""


class Failure(Exception):
    """An error whose message tells what, where and what to do; printed without a traceback."""


def say(text):
    """A progress line, with the seconds since the start. Standard output is for results."""
    print(f"{CLEAR}[{time.monotonic() - START:7.1f}s] {text}", file=sys.stderr, flush=True)


def show(text):
    """The same, on a terminal only, and written over by the next one."""
    if CLEAR:
        print(f"{CLEAR}[{time.monotonic() - START:7.1f}s] {text}", end="", file=sys.stderr, flush=True)


def root():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(base) / "ame"
    path.mkdir(parents=True, exist_ok=True)
    return path


def digest(*parts):
    """Short hash of strings, and of the contents of files given as Path."""
    total = hashlib.sha256()
    for part in parts:
        data = part.read_bytes() if isinstance(part, Path) else str(part).encode()
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:16]


def sha256(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            total.update(block)
    return total.hexdigest()


@contextlib.contextmanager
def entry(name):
    """Yields (folder, is_new). The caller fills a new folder; leaving normally completes it."""
    folder = root() / name
    with open(root() / f"{name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process is making {name}: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / ".complete"
        if stamp.exists():
            os.utime(stamp)
            yield folder, False
            return
        if folder.exists():
            say(f"removing the remains of an interrupted run: {folder.name}")
            shutil.rmtree(folder)
        folder.mkdir()
        yield folder, True
        stamp.touch()


def main_wrapper(main, name):
    """Runs main(); a Failure or an interrupt becomes one line and an exit code."""
    try:
        sys.exit(main())
    except Failure as error:
        print(f"{CLEAR}{name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{CLEAR}{name}: interrupted", file=sys.stderr)
        sys.exit(130)
