"""Running commands: output to a log file, failures with the end of that log."""

import os
import shlex
import subprocess

from .cache import Failure


def clean_env(**extra):
    """An environment in which only what we choose steers a build or a test run."""
    keep = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "XDG_CACHE_HOME")
    env = {name: os.environ[name] for name in keep if name in os.environ}
    env.update(LANG="C.UTF-8", LC_ALL="C.UTF-8", TERM="dumb")
    env.update(extra)
    return env


def tail(path, lines=25):
    with open(path, errors="replace") as file:
        return "".join(file.readlines()[-lines:])


def logged(argv, log, cwd=None, env=None, what=None, remedy="", progress=None):
    """Runs argv with all output to log; raises Failure with the log's end when it fails.
    progress is called with each line of output."""
    argv = [str(arg) for arg in argv]
    with open(log, "a") as out:
        out.write(f"$ {shlex.join(argv)}\n")
        out.flush()
        process = subprocess.Popen(argv, cwd=cwd, env=env or clean_env(), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                   errors="replace")
        try:
            for line in process.stdout:
                out.write(line)
                if progress:
                    progress(line)
        except KeyboardInterrupt:
            process.wait()
            raise
        code = process.wait()
    if code != 0:
        what = what or argv[0]
        remedy = f"\n{remedy}" if remedy else ""
        raise Failure(f"{what} failed with exit code {code}: {shlex.join(argv)}\n"
                      f"log: {log}, which ends with\n{tail(log)}{remedy}")


def output(argv, **kwargs):
    """Standard output of a command that must succeed."""
    try:
        return subprocess.run([str(arg) for arg in argv], check=True, text=True,
                              stdout=subprocess.PIPE, **kwargs).stdout
    except FileNotFoundError as error:
        raise Failure(f"{argv[0]} is not installed: apt-get install it ({error})") from None
    except subprocess.CalledProcessError as error:
        raise Failure(f"{shlex.join(map(str, argv))} failed with exit code "
                      f"{error.returncode}") from None
