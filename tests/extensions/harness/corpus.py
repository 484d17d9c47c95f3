"""The packages of packages.toml, and their source archives from PyPI, cached by hash."""

import dataclasses
import os
import subprocess
import tarfile
import tomllib
from pathlib import Path

from recipe.cache import Failure, digest, entry, say, sha256

HERE = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Package:
    """One table; its fields are explained at the top of packages.toml."""
    name: str
    version: str
    sha256: str
    module: str
    dist: str
    domain: str = ""
    needs: tuple = ()
    build: tuple = ()
    environment: tuple = ()
    tests: tuple = ()
    without: tuple = ()
    skip: dict = dataclasses.field(default_factory=dict, hash=False)
    extra: tuple = ()
    pythons: tuple = ()
    dependency: bool = False

    def builds_on(self, python):
        return not self.pythons or python in self.pythons


def load():
    """Name to package, in the order of the file."""
    with open(HERE / "packages.toml", "rb") as file:
        tables = tomllib.load(file)
    return {name: Package(
        name=name, version=table["version"], sha256=table["sha256"], module=table["import"],
        dist=table.get("dist", name), domain=table.get("domain", ""), needs=tuple(table.get("needs", ())),
        build=tuple(table.get("build", ())), environment=tuple(sorted(table.get("environment", {}).items())),
        tests=tuple(table.get("tests", ())), without=tuple(table.get("without", ())), skip=table.get("skip", {}),
        extra=tuple(table.get("with", ())), pythons=tuple(table.get("pythons", ())),
        dependency=table.get("dependency", False)) for name, table in tables.items()}


def archive(package):
    """The source archive, downloaded once and checked on every use."""
    with entry(f"extension-source-{package.name}-{digest(package.sha256)}") as (folder, new):
        if new:
            say(f"downloading {package.dist} {package.version}")
            download(package, folder)
        files = list(folder.glob("*.tar.gz"))
    if len(files) != 1 or sha256(files[0]) != package.sha256:
        raise Failure(f"{folder} does not hold the source archive of {package.dist} {package.version} with the "
                      "SHA-256 of tests/extensions/packages.toml: remove that folder, and see which of the two is "
                      "wrong")
    return files[0]


def download(package, folder):
    # pip prepares what it downloads, which runs the package's setup.py: by Debian's Python, which all can use.
    result = subprocess.run(
        ["/usr/bin/python3.11", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package.dist,
         "--dest", folder, f"{package.dist}=={package.version}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **dict(package.environment)})
    if result.returncode:
        raise Failure(f"cannot download {package.dist} {package.version}:\n{result.stdout.strip()}")


def source(package):
    """Its unpacked source, for its tests; nobody builds or writes there."""
    file = archive(package)
    with entry(f"extension-tree-{package.name}-{digest(package.sha256)}") as (folder, new):
        if new:
            with tarfile.open(file) as tar:
                tar.extractall(folder, filter="data")
        return next(path for path in folder.iterdir() if path.is_dir())
