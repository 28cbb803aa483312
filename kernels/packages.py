"""Debian packages of any suite and architecture, by this machine's own apt from its own mirror.

A private apt root is made from a copy of the machine's apt source with another suite and an empty package
database: apt resolves whole closures, verifies signatures and downloads, and the machine's own apt state
is neither read nor changed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_ETC_APT = Path("/etc/apt")


class PackagesUnavailable(Exception):
    """Neither cache nor network has a package; the message is that of apt or pip."""


@dataclass(frozen=True, slots=True)
class Source:
    """One Debian repository that this machine uses."""

    uri: str
    suites: tuple[str, ...]
    components: str
    signed_by: str
    """Path of the key ring; empty for apt's default."""

    def line(self, suite: str) -> str:
        """The sources.list line for another suite of the same repository."""
        options = f"[signed-by={self.signed_by}] " if self.signed_by else ""
        return f"deb {options}{self.uri} {suite} {self.components}\n"


def _parse_deb822(text: str) -> Iterator[Source]:
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.+)$", stanza, re.MULTILINE))
        if "deb" in fields.get("Types", "").split():
            for uri in fields.get("URIs", "").split():
                suites = tuple(fields.get("Suites", "").split())
                yield Source(uri, suites, fields.get("Components", ""), fields.get("Signed-By", ""))


def _parse_one_line(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        found = re.match(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line)
        if found:
            options, uri, suite, components = found.groups()
            key = re.search(r"signed-by=(\S+)", options or "")
            yield Source(uri, (suite,), components.strip(), key[1] if key else "")


def machine_source() -> Source:
    """The repository that serves the main part of the Debian release this machine runs.

    :raises PackagesUnavailable: no apt source offers it.
    """
    release = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    codename = release[1] if release else "?"
    parts = _ETC_APT / "sources.list.d"
    lists = [path for path in (_ETC_APT / "sources.list", *parts.glob("*.list")) if path.exists()]
    sources = [source for path in lists for source in _parse_one_line(path.read_text())]
    sources += [source for path in parts.glob("*.sources") for source in _parse_deb822(path.read_text())]
    for source in sources:
        if codename in source.suites and "main" in source.components.split():
            return source
    raise PackagesUnavailable(f"no apt source of this machine offers {codename} main: run this on Debian")


@dataclass(frozen=True, slots=True)
class AptRoot:
    """A private apt root for one suite and architecture; everything is kept below *root*."""

    root: Path
    suite: str
    arch: str

    def update(self) -> None:
        """Read the newest package lists.

        :raises PackagesUnavailable: the mirror cannot be reached or does not serve this suite.
        """
        (self.root / "state/lists/partial").mkdir(parents=True, exist_ok=True)
        (self.root / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
        (self.root / "state/status").touch()
        (self.root / "sources.list").write_text(machine_source().line(self.suite))
        self._run("apt-get", "update")

    def newest(self, pattern: str) -> str:
        """The package with the highest numbers in its name, of those whose whole name matches *pattern*.

        :raises PackagesUnavailable: there is none.
        """
        names = [name for name in self._run("apt-cache", "pkgnames").split() if re.fullmatch(pattern, name)]
        if not names:
            raise PackagesUnavailable(f"{self.suite} for {self.arch} has no package {pattern}")
        return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])

    def fetch(self, name: str, directory: Path) -> Path:
        """Download one package, without what it depends on, into the empty *directory*."""
        self._run("apt-get", "download", name, cwd=directory)
        return next(directory.glob("*.deb"))

    def fetch_closure(self, names: Sequence[str], directory: Path) -> list[Path]:
        """Download the packages and all that they depend on into the empty *directory*."""
        (directory / "partial").mkdir()
        self._run("apt-get", f"-oDir::Cache::archives={directory}", "install", "--yes", "--download-only", *names)
        return sorted(directory.glob("*.deb"))

    def _run(self, tool: str, *arguments: str, cwd: Path | None = None) -> str:
        options = {
            "Dir::Etc::sourcelist": self.root / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State": self.root / "state",
            "Dir::State::status": self.root / "state/status",
            "Dir::Cache": self.root / "cache",
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            "APT::Sandbox::User": "",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
        }
        command = [tool, "-q", *(f"-o{key}={value}" for key, value in options.items()), *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        if done.returncode:
            what = " ".join([tool, *arguments])
            raise PackagesUnavailable(f"{what} ({self.suite}, {self.arch}) failed:\n{done.stderr.strip()}")
        return done.stdout


def unpack(deb: Path, directory: Path) -> None:
    """Unpack the files of a .deb of any architecture; none of its scripts are run."""
    subprocess.run(["dpkg-deb", "--extract", deb, directory], check=True)
