"""Scenario files: TOML that says what is set up, what each CPU does, in which order, and what must hold.

::

    title = "..."
    story = "what goes wrong, and why"
    system = 26
    watch = "a"                     # the pages that are explained
    arch = "x86_64"                 # the page-table format, if it is another
    setup = ["map a 1", ...]        # statements, see pagewatch.scenarios.session
    cpu0 = ["migrate a"]
    cpu1 = ["try-store a[0] new"]
    finally = ["expect a[0] new"]
    schedule = ["cpu1 to tlb: fill", "cpu0", "cpu1"]

    [variants.defect]
    quirks = {migrate_drops_dirty = true}
    breaks = true
    [variants.kernel]

A variant may replace the format, any list of statements and the schedule. A line of the schedule runs one CPU:
to its end, ``to`` the end of its next step of that label (``* 3`` behind it: of the third), or to just ``before`` it.

Where two CPUs have too many interleavings, ``preemptions`` says how often one may be stopped in favour of the
other, and ``stops``, the beginnings of labels, before which steps.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from pagewatch.model import Quirks
from pagewatch.model.arch import ARCHES
from pagewatch.vocab.errors import InvalidArgument

_LISTS = ("setup", "cpu0", "cpu1", "finally", "schedule", "stops")
_TEXTS = ("title", "story", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form of a scenario: under one choice of kernel behaviours."""

    name: str
    arch: str
    quirks: Quirks
    breaks: bool
    """Whether what must hold does not, under the schedule."""
    setup: tuple[str, ...]
    cpus: tuple[tuple[str, ...], ...]
    """The statements of each CPU."""
    final: tuple[str, ...]
    """Statements after both, with what must hold."""
    schedule: tuple[str, ...]
    preemptions: int | None
    """How often exploring stops a CPU in favour of the other; None for as often as can be."""
    stops: tuple[str, ...]
    """Exploring stops a CPU only before steps whose labels begin so; () for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A scenario."""

    name: str
    title: str
    story: str
    system: int
    """Which of the project's systems it shows."""
    watch: str
    variants: tuple[Variant, ...]


def load(where: str) -> Script:
    """Read a scenario: a path, or the name of one that comes with the package.

    :raises InvalidArgument: there is none, or it cannot be understood.
    :raises OSError: it cannot be read.
    """
    shipped = files(__package__) / "files" / f"{where}.toml"
    if shipped.is_file():
        return parse(where, shipped.read_text("utf-8"))
    path = Path(where)
    if not path.exists():
        raise InvalidArgument(f"no scenario {where!r}: give a file, or one of: {', '.join(shipped_names())}")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{where}: not a scenario: {error}") from None
    return parse(path.stem, text)


def shipped_names() -> list[str]:
    """Names of the scenarios that come with the package, sorted."""
    found = (entry.name for entry in (files(__package__) / "files").iterdir())
    return sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml"))


def parse(name: str, text: str) -> Script:
    """A scenario from the text of its file.

    :raises InvalidArgument: it cannot be understood; the error says where.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{name}: {error}") from error
    variants = table.pop("variants", {})
    _check_keys(name, table, {*_LISTS, *_TEXTS, "system", "arch", "preemptions"})
    if not isinstance(variants, dict) or not variants:
        raise InvalidArgument(f"{name}: no [variants.NAME]")
    system = table.get("system", 0)
    if not isinstance(system, int):
        raise InvalidArgument(f"{name}: system is a number")
    texts = {key: _text(name, table, key) for key in _TEXTS}
    made = tuple(_variant(f"{name}, variant {key}", key, table, own) for key, own in variants.items())
    return Script(name=name, system=system, variants=made, **texts)


def _variant(where: str, name: str, table: Mapping[str, Any], own: object) -> Variant:
    if not isinstance(own, dict):
        raise InvalidArgument(f"{where}: not a table")
    _check_keys(where, own, {*_LISTS, "quirks", "breaks", "arch", "preemptions"})
    lists = {key: _strings(where, key, own.get(key, table.get(key, []))) for key in _LISTS}
    breaks = own.get("breaks", False)
    if not isinstance(breaks, bool):
        raise InvalidArgument(f"{where}: breaks is true or false")
    arch = own.get("arch", table.get("arch", "x86_64"))
    if arch not in ARCHES:
        raise InvalidArgument(f"{where}: unknown arch {arch!r}; known: {', '.join(ARCHES)}")
    preemptions = own.get("preemptions", table.get("preemptions"))
    if not (preemptions is None or (isinstance(preemptions, int) and preemptions >= 0)):
        raise InvalidArgument(f"{where}: preemptions is a number")
    return Variant(
        name=name,
        arch=arch,
        quirks=_quirks(where, own.get("quirks", {})),
        breaks=breaks,
        setup=lists["setup"],
        cpus=(lists["cpu0"], lists["cpu1"]),
        final=lists["finally"],
        schedule=lists["schedule"],
        preemptions=preemptions,
        stops=lists["stops"],
    )


def _quirks(where: str, table: object) -> Quirks:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{where}: quirks is a table")
    _check_keys(f"{where}, quirks", table, {field.name for field in fields(Quirks)})
    return Quirks(**table)


def _check_keys(where: str, table: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(table.keys() - known):
        raise InvalidArgument(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _text(where: str, table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise InvalidArgument(f"{where}: {key} is missing, or not a text")
    return value.strip()


def _strings(where: str, key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"{where}: {key} is a list of texts")
    return tuple(value)
