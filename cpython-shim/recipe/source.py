"""The unmodified source of CPython 3.13.5, from Debian's source package.

A private apt configuration (own lists, state and deb-src entry) leaves the system's apt alone. The
mirror is the one that the system's apt uses. Whatever the mirror says, the tarball must have the
SHA-256 below: that of the upstream release, so Debian's patches are not in it.
"""

import re
import shutil
import tarfile
from pathlib import Path

from .cache import Failure, digest, entry, root, say, sha256
from .run import clean_env, logged, output

VERSION = "3.13.5"
PACKAGE = "python3.13"
SUITE = "trixie"
TARBALL = f"{PACKAGE}_{VERSION}.orig.tar.xz"
SHA256 = "93e583f243454e6e9e4588ca2c2662206ad961659863277afcdb96801647d640"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def mirror():
    """Debian mirror of the system's apt: the first main archive that it lists."""
    text = output(["apt-get", "indextargets", "--format", "$(SITE) $(LABEL) $(ORIGIN)",
                   "Created-By: Packages"])
    for line in text.splitlines():
        site, _, rest = line.partition(" ")
        if "Debian" in rest and "Security" not in rest:
            return site
    # Without downloaded lists apt knows no labels: read its configuration.
    for path in sorted(Path("/etc/apt").glob("sources.list*")) + \
            sorted(Path("/etc/apt/sources.list.d").glob("*")):
        if path.is_file() and path.suffix in (".list", ".sources"):
            for line in path.read_text(errors="replace").splitlines():
                found = re.match(r"(?:URIs:|deb)\s.*?(\S+://\S+/debian)/?(?:\s|$)", line)
                if found:
                    return found.group(1)
    raise Failure("no Debian mirror in the apt configuration (/etc/apt/sources.list*): "
                  f"put {TARBALL} into {root()} by hand")


def apt_options(folder):
    parts = folder / "sources"
    for name in (parts, folder / "state/lists/partial", folder / "cache/archives/partial"):
        name.mkdir(parents=True, exist_ok=True)
    signed = f"Signed-By: {KEYRING}\n" if KEYRING.exists() else ""
    (parts / "source.sources").write_text(
        f"Types: deb-src\nURIs: {mirror()}\nSuites: {SUITE}\nComponents: main\n{signed}")
    options = {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": parts,
               "Dir::State": folder / "state", "Dir::Cache": folder / "cache",
               "Acquire::Languages": "none"}
    return [arg for key, value in options.items() for arg in ("-o", f"{key}={value}")]


def download(target):
    """Puts the checked tarball at target."""
    work = root() / "apt"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    options = apt_options(work)
    log = work / "log"
    say(f"reading the package lists of {SUITE}")
    logged(["apt-get", *options, "update"], log, what="apt-get update",
           remedy="does the machine reach its Debian mirror?")
    listing = output(["apt-cache", *options, "showsrc", PACKAGE])
    versions = re.findall(rf"^Version: ({re.escape(VERSION)}-\S+)$", listing, re.M)
    if not versions:
        raise Failure(f"{SUITE} has no source package {PACKAGE} {VERSION} any more: "
                      f"put {TARBALL} into {root()} by hand")
    say(f"downloading the source package {PACKAGE} {versions[0]}")
    logged(["apt-get", *options, "source", "--download-only", "--only-source",
            f"{PACKAGE}={versions[0]}"], log, cwd=work, env=clean_env(),
           what="apt-get source", remedy="apt-get install dpkg-dev, if it is missing")
    found = work / TARBALL
    check(found)
    found.rename(target)
    shutil.rmtree(work)


def check(path):
    have = sha256(path)
    if have != SHA256:
        raise Failure(f"{path} has SHA-256 {have}, expected {SHA256}: remove it and run again")


def tarball():
    """Path of the checked tarball, downloaded when it is not in the cache."""
    path = root() / TARBALL
    if not path.exists():
        download(path)
    check(path)
    return path


def unpack(folder):
    """Unpacks the tarball into folder, without its top directory; keeps time stamps."""
    say(f"unpacking {TARBALL}")
    with tarfile.open(tarball()) as archive:
        archive.extractall(folder, filter="tar") if hasattr(tarfile, "data_filter") \
            else archive.extractall(folder)
    tops = [path for path in folder.iterdir() if path.is_dir()]
    if len(tops) != 1:
        raise Failure(f"{TARBALL} holds {len(tops)} top directories, expected one")
    return tops[0]


def tree():
    """An unpacked source tree for reading (builds get a copy of their own)."""
    with entry(f"cpython-source-{digest(SHA256)}") as (folder, is_new):
        if is_new:
            unpack(folder)
        return next(path for path in folder.iterdir() if path.is_dir())
