"""A package's own tests, run by pytest from a copy; without any, those that we have written (suites/)."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from recipe.cache import digest

from . import corpus

SUITES = Path(__file__).resolve().parents[1] / "suites"
SECONDS = 1200


def outcome(package, which, python, folder=None):
    """{"passed": [...], "other": {name: what}, "end": how pytest ended}, by the interpreter `python`, which is
    `which` of the Pythons; the same for the same environment when `folder` keeps it."""
    own = [SUITES / f"test_{package.name}.py"] if not package.tests else []
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("AME_")]
    rules = digest(str(package.tests), str(package.without), package.skip.get(which, ""), *settings, *own)
    kept = folder and Path(folder) / f"suite-{rules}.json"
    if kept and kept.exists():
        return json.loads(kept.read_text())
    with tempfile.TemporaryDirectory(prefix="ame-suite-") as scratch:
        result = play(package, which, python, Path(scratch))
    if kept:
        kept.write_text(json.dumps(result, indent=1))
    return result


def play(package, which, python, scratch):
    results = scratch / "results.xml"
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junit-xml", results, "--tb=short",
               "-o", "python_files=test*.py *_tests.py", "-o", "junit_family=xunit1",
               *(["-k", f"not ({package.skip[which]})"] if which in package.skip else []),
               *arguments(package, scratch)]
    try:
        done = subprocess.run(list(map(str, command)), cwd=scratch, stdin=subprocess.DEVNULL, timeout=SECONDS,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        end = describe(done.returncode)
        text = done.stdout
    except subprocess.TimeoutExpired as late:
        end, text = f"no end within {SECONDS} s", (late.stdout or b"").decode(errors="replace")
    passed, other = read(results)
    lines = [line for line in text.splitlines() if "/_pytest/" not in line and "/pluggy/" not in line]
    return {"passed": passed, "other": other, "end": end, "output": "\n".join(lines[-40:])}


def arguments(package, scratch):
    """What pytest gets, after a copy of it was made: the source tree itself has modules without their C."""
    if not package.tests:
        # Names of tests must not depend on where the repository lies: results are compared, and kept.
        return [shutil.copy(SUITES / f"test_{package.name}.py", scratch)]
    if package.tests[0] == "-m":
        return ["--pyargs", *package.tests[1:]]
    for name in package.tests:
        shutil.copytree(corpus.source(package) / name, scratch / name)
    for name in package.without:
        (scratch / name).unlink()
    return list(package.tests)


def describe(code):
    """How a process ended."""
    if code < 0:
        return signal.Signals(-code).name
    return {0: "passed", 1: "failed", 5: "no tests"}.get(code, f"exit code {code}")


def read(results):
    """Names of the tests that passed, and what became of the others."""
    passed, other = [], {}
    if not results.exists():
        return passed, other
    for case in ElementTree.parse(results).iter("testcase"):
        name = f"{case.get('classname')}.{case.get('name')}"
        failure = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        if failure is None:
            passed.append(name)
        else:
            other[name] = f"{failure.tag}: {(failure.get('message') or '')[:200]}"
    return sorted(passed), other


def environment():
    """Of tests and hammers: what the caller has, less what would change their meaning."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
