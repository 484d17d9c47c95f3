"""pip of AME CPython: what `ame pip` runs, with its arguments.

Compilers are those that the interpreter was built with, whatever builds a package (setuptools asks sysconfig,
Meson and CMake the environment). Wheels with compiled code are only taken when they are of AME CPython
(recipe/edits.py, get_platform), so that pip builds others from source; with AME_WHEELS=1 it takes any.
"""

import importlib.util
import os
import subprocess
import sys
import sysconfig


def environment():
    env = dict(os.environ)
    for name in ("CC", "CXX"):
        env[name] = sysconfig.get_config_var(name)
    # setuptools derives them from the two.
    for name in ("LDSHARED", "LDCXXSHARED"):
        env.pop(name, None)
    if env.get("AME_WHEELS", "0") not in ("", "0"):
        # What is built now does not say that it is for AME CPython: other Pythons must not find it.
        cache = env.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        env.setdefault("PIP_CACHE_DIR", os.path.join(cache, "ame/pip"))
    return env


def main(arguments):
    if importlib.util.find_spec("_ame") is None:
        sys.exit(f"ame pip: error: {sys.executable} is not AME CPython: leave the virtual environment that is "
                 "active, or make one with `ame python run -m venv FOLDER`")
    if importlib.util.find_spec("pip") is None:
        # Part of CPython, and put there only when somebody wants it.
        subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=sys.stderr)
    os.execve(sys.executable, [sys.executable, "-m", "pip", *arguments], environment())


if __name__ == "__main__":
    # Its folder holds modules of the interpreter, under their own names.
    del sys.path[0]
    main(sys.argv[1:])
