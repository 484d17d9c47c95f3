"""A virtual environment with one package, for each (package, Python, compiler); cached by content.

Without Ame it is pip with clang-19, the same compiler; with Ame it is `ame ext build`, as users run it. pip and
pytest are in a second environment that all of one Python look into, so that one for a package is small.
"""

import os
import subprocess
from pathlib import Path

from recipe.cache import Failure, digest, entry, say

from . import corpus

REPOSITORY = Path(__file__).resolve().parents[3]
PYTHONS = ("3.11", "gil", "free-threaded")
#: Shared by all packages; newer setuptools do not build some of them.
TOOLS = ("pip==25.1.1", "setuptools==80.9.0", "wheel==0.45.1", "pytest==8.4.2")


def ame():
    """The command under test: AME=path, else the one of this repository."""
    path = Path(os.environ.get("AME") or REPOSITORY / "target/release/ame")
    if not path.exists():
        raise Failure(f"{path} does not exist: run `cargo build --release --workspace` first")
    return path


def interpreter(python):
    if python == "3.11":
        return Path("/usr/bin/python3.11")
    return Path(run([ame(), "python", "path", f"--{python}"], stderr=None).strip())


def run(command, env=None, **kwargs):
    """Standard output of a command; its failure is ours, with all that it printed."""
    kwargs.setdefault("stderr", subprocess.STDOUT)
    result = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            env={**os.environ, **(env or {})}, **kwargs)
    if result.returncode:
        shown = " ".join(map(str, command))
        raise Failure(f"`{shown}` failed (exit code {result.returncode}):\n{result.stdout.strip()}")
    return result.stdout


def tools(python):
    """An environment with pip, setuptools and pytest; returns its packages' folder."""
    base = interpreter(python)
    with entry(f"extension-tools-{digest(base, base.resolve(), *TOOLS)}") as (folder, new):
        if new:
            say(f"making the tools' environment of Python {python}")
            run([base, "-m", "venv", folder / "env"])
            run([folder / "env/bin/python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *TOOLS])
        return next((folder / "env/lib").glob("python*/site-packages"))


def make(package, python, compiler):
    """Builds and installs; returns the environment's interpreter. `compiler` is `plain`, `ame`, `elide`: Ame
    with entries that may be transactions, or `parallel`: Ame with all entries without the GIL, where there is one."""
    chain = [*needed(package, corpus.load()), package]
    base, shared = interpreter(python), tools(python)
    parts = [base, str(shared), *map(str, chain), *map(corpus.archive, chain)]
    if compiler != "plain":
        parts += ame_files()
    name = f"extension-{package.name}-{python}-{compiler}-{digest(*parts)}"
    with entry(name) as (folder, new):
        own = folder / "env/bin/python"
        if new:
            say(f"building {package.name} for Python {python}, {compiler}")
            run([base, "-m", "venv", "--without-pip", folder / "env"])
            site = next((folder / "env/lib").glob("python*/site-packages"))
            (site / "tools.pth").write_text(f"{shared}\n")
            log = [install(each, own, compiler) for each in chain]
            (folder / "build.log").write_text("\n".join(log))
        return own


def needed(package, packages):
    """Packages of the corpus that must be there first, each once."""
    found = []
    for name in package.needs:
        for each in [*needed(packages[name], packages), packages[name]]:
            if each not in found:
                found.append(each)
    return found


def install(package, python, compiler):
    env = {**dict(package.environment), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    pip = [python, "-m", "pip", "install"]
    log = ""
    if package.extra:
        log += run([*pip, "--prefer-binary", *package.extra], {**env, "CC": "clang-19"})
    options = []
    if package.build:
        # What the package lists as its build's requirements is not all needed, nor can all be built here.
        options = ["--no-build-isolation"]
        rest = [name for name in package.build if name != "setuptools"]
        if rest:
            log += run([*pip, "--prefer-binary", *rest], env)
    file = corpus.archive(package)
    if compiler != "plain":
        env["AME_ELIDE"] = "1" if compiler == "elide" else "0"
        own = ["--domain", package.domain] if package.domain else []
        if compiler == "parallel":
            own += ["--parallel", "all"]
        return log + run([ame(), "ext", "build", file, "--python", python, *own, "--", *options], env)
    env |= {"CC": "clang-19", "CXX": "clang++-19"}
    return log + run([*pip, "--verbose", "--no-deps", "--no-binary", package.dist, *options, file], env)


def ame_files():
    """What the code that `ame ext build` makes depends on."""
    folder = ame().resolve().parent
    glue = sorted(path for path in (REPOSITORY / "cpython-shim").rglob("*")
                  if path.suffix in (".c", ".h", ".toml"))
    return [ame(), folder / "libame_pass.so", folder / "libame_rt.so", *glue,
            *sorted((REPOSITORY / "annotations/sets").glob("*.toml"))]
