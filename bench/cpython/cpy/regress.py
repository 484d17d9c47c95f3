"""CPython's regression tests on one build, and the comparison of two builds.

`python -m test` runs every test file in a process of its own. A result is kept at two levels: the
state of each file (passed, failed, skipped, ...) and, from the JUnit report, of each single test.
The comparison is exact: what passes with the plain build has to pass with Ame's, and the other way
round. Files that differ are run again, alone, on both builds, since some of CPython's tests depend
on the machine's load; only a difference that stays counts.
"""

import json
import re
import signal
import subprocess
import time
import xml.etree.ElementTree as xml
from pathlib import Path

from recipe.cache import Failure, say
from recipe.run import clean_env

# No network, urlfetch, gui, largefile, audio; cpu and walltime only make tests longer.
RESOURCES = "curses,subprocess,decimal"
STATES = {  # heading of libregrtest's summary -> state
    "tests failed": "failed", "test failed": "failed",
    "tests skipped": "skipped", "test skipped": "skipped",
    "tests skipped (resource denied)": "skipped", "test skipped (resource denied)": "skipped",
    "tests run no tests": "empty", "test run no tests": "empty",
    "tests altered the execution environment (env changed)": "env-changed",
    "test altered the execution environment (env changed)": "env-changed",
    "tests omitted": "omitted", "test omitted": "omitted",
}


class Results:
    """files: test file -> state; cases: single test -> passed, failed or skipped."""

    def __init__(self, name, files, cases, seconds):
        self.name, self.files, self.cases, self.seconds = name, files, cases, seconds

    def save(self, path):
        path.write_text(json.dumps(self.__dict__, indent=0, sort_keys=True))

    @classmethod
    def load(cls, path):
        return cls(**json.loads(path.read_text()))

    def count(self, state):
        return sum(1 for have in self.files.values() if have == state)

    def names(self, *states):
        return sorted(name for name, state in self.files.items() if state in states)


class Mode:
    """A way to run a build: a word, and settings for its environment."""

    def __init__(self, name="", **settings):
        self.name, self.settings = name, settings


def run(build, tests=(), jobs=2, timeout=900, without=(), mode=Mode(), ignore=()):
    """Runs the test files (when empty, all but those in without), but no test whose name is in `ignore`, and
    returns Results."""
    kind = "subset" if tests else "quick" if without else "full"
    name = f"{build.name}-{mode.name}" if mode.name else build.name
    folder = build.folder / "-".join(filter(None, ("regress", kind, mode.name)))
    folder.mkdir(exist_ok=True)
    log, report = folder / "log", folder / "junit.xml"
    report.unlink(missing_ok=True)
    argv = [build.python, "-m", "test", f"-j{jobs}", "-u", RESOURCES, f"--timeout={timeout}",
            "--junit-xml", report, *(word for name in ignore for word in ("-i", name)),
            *(tests or excluding(without))]
    what = f"{len(tests)}" if tests else f"all but {len(without)}" if without else "all"
    say(f"{name}: running {what} test files, -j{jobs}; see {log}")
    start = time.monotonic()
    with open(log, "w") as out:
        subprocess.call([str(arg) for arg in argv], cwd=build.tree, env=clean_env(**mode.settings),
                        stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                        preexec_fn=fair_start)
    text = log.read_text(errors="replace")
    files = parse_log(text)
    if not files:
        raise Failure(f"{name}: the test run produced no result; see {log}")
    results = Results(name, files, parse_junit(report), time.monotonic() - start)
    results.save(folder / "results.json")
    say(f"{name}: {summary(results)}")
    return results


def excluding(without):
    """libregrtest excludes by the last part of a name: test_tasks, not test.test_asyncio.test_tasks."""
    return ["-x", *sorted({name.rpartition(".")[2] for name in without})] if without else []


def fair_start():
    """In the child, before it becomes Python: signals as at a terminal, and first in line for the
    out-of-memory killer. A shell starts background jobs with SIGINT ignored; several tests of
    asyncio and multiprocessing then never end, and eat all memory."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    Path("/proc/self/oom_score_adj").write_text("900")


def saved(build):
    """Results of the last full run of this build, or None."""
    path = build.folder / "regress-full/results.json"
    return Results.load(path) if path.exists() else None


def parse_log(text):
    """State of each test file, from the progress lines and the closing summary."""
    files = {}
    # 0:00:12 load avg: 2.1 [ 12/478/1] test_foo failed (2 failures) ...
    progress = re.compile(r"^\d+:\d\d:\d\d .*?\[ *\d+(?:/\d+)*\] (test[\w.]*)(.*)$", re.M)
    for name, rest in progress.findall(text):
        rest = rest.split(" -- running")[0]
        state = "passed"
        for word, value in (("worker non-zero", "crashed"), ("worker bug", "crashed"),
                            ("timed out", "timeout"), ("env changed", "env-changed"),
                            ("failed", "failed"), ("interrupted", "interrupted"),
                            ("skipped", "skipped"), ("ran no tests", "empty")):
            if word in rest:
                state = value
                break
        files[name] = state
    # The summary adds what has no line of its own, such as files that libregrtest omits.
    for heading, block in re.findall(r"^\d+ (tests? [^:\n]+):\n((?: {4}.*\n)+)", text, re.M):
        state = STATES.get(heading)
        for name in block.split():
            if state and files.get(name, "passed") == "passed":
                files[name] = state
    return files


def parse_junit(path):
    cases = {}
    if not path.exists():
        return cases
    try:
        document = xml.parse(path)
    except xml.ParseError as error:
        say(f"the JUnit report {path} is unreadable ({error}): comparing test files only")
        return cases
    for case in document.iter("testcase"):
        state = "passed"
        if case.find("error") is not None or case.find("failure") is not None:
            state = "failed"
        elif case.find("skipped") is not None or case.get("status") == "skipped":
            state = "skipped"
        # Subtests carry the repr of their parameters, and that the address of an object.
        # The entry of a worker that was killed has no name.
        name = re.sub(r"\b0x[0-9a-f]+", "0x...", case.get("name") or "worker")
        # A failing subtest must not be hidden by a later passing entry of the same name.
        if cases.get(name) != "failed":
            cases[name] = state
    return cases


def summary(results):
    parts = [f"{results.count(state)} {state}" for state in
             ("passed", "failed", "timeout", "crashed", "env-changed", "skipped", "empty",
              "omitted") if results.count(state)]
    cases = list(results.cases.values())
    return (f"{len(results.files)} files: {', '.join(parts)}; {len(cases)} tests: "
            f"{cases.count('passed')} passed, {cases.count('failed')} failed, "
            f"{cases.count('skipped')} skipped; {results.seconds:.0f} s")


def differences(one, other):
    """(files, cases) whose state differs: name -> (state in one, state in other)."""
    def compare(left, right):
        return {name: (left.get(name, "missing"), right.get(name, "missing"))
                for name in sorted(set(left) | set(right))
                if left.get(name, "missing") != right.get(name, "missing")}
    return compare(one.files, other.files), compare(one.cases, other.cases)


def file_of(case, files):
    """Test file of a case named test.test_x.test_y.Class.method or test.test_x.Class.method."""
    parts = case.split(".")
    for end in range(len(parts), 0, -1):
        for name in (".".join(parts[1:end]), ".".join(parts[:end]), parts[end - 1]):
            if name in files:
                return name
    return None


def compare(plain, ame, left, right, mode=Mode()):
    """Compares Results, after running the files that differ again; returns what still differs."""
    files, cases = differences(left, right)
    if not files and not cases:
        return {}, {}
    again = set(files) | {file_of(case, left.files | right.files) for case in cases}
    again.discard(None)
    say(f"{len(files)} files and {len(cases)} tests differ; again, one at a time: "
        f"{' '.join(sorted(again))}")
    if len(again) > 60:
        return files, cases
    second_left = run(plain, sorted(again), jobs=1)
    second_right = run(ame, sorted(again), jobs=1, mode=mode)
    files, cases = differences(second_left, second_right)
    for build, first, second in ((plain, left, second_left), (ame, right, second_right)):
        first.files.update(second.files)
        first.cases.update(second.cases)
    return files, cases


def lists(results):
    """The list of test files per state, for people."""
    lines = []
    for state in ("passed", "failed", "timeout", "crashed", "env-changed", "skipped", "empty"):
        names = results.names(state)
        if names:
            lines.append(f"{results.name}: {len(names)} {state}: {' '.join(names)}")
    return "\n".join(lines)


def show(files, cases, left, right):
    """Prints what compare() has returned of the builds of these names."""
    for kind, table in (("file", files), ("test", cases)):
        for what, (one, other) in table.items():
            print(f"DIFFERS: {kind} {what}: {one} with {left}, {other} with {right}")


def names(path):
    """Words of a text file in which # starts a comment."""
    return [word for line in path.read_text().splitlines()
            for word in line.partition("#")[0].split()]
