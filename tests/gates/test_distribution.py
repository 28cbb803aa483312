"""What a source distribution holds: all that the tests, the documentation and the Makefile need."""

import fnmatch
import tomllib

from support.tree import ROOT

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
NEVER = {".git", "PKG-INFO", "pyproject.toml"}  # the last two are in every one


def kept():
    """What lies in the tree and belongs to it."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    return {
        path.name
        for path in ROOT.iterdir()
        if path.name not in NEVER and not any(fnmatch.fnmatch(path.name, pattern) for pattern in ignored)
    }


def test_the_source_distribution_holds_everything():
    included = {path.strip("/").split("/")[0] for path in SETTINGS["sdist"]["include"]}
    assert included == kept()


def test_what_is_included_is_there():
    assert [path for path in SETTINGS["sdist"]["include"] if not (ROOT / path.strip("/")).exists()] == []


def test_an_installation_holds_the_package_alone():
    assert SETTINGS["wheel"]["packages"] == ["src/pagewatch"]
