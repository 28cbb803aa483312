"""What a recording holds, as plain values.

Times are nanoseconds since the recording began, addresses are bytes. Names and reasons are text of the
target's choosing: they are valid Unicode, but may hold control characters or markup; escape them.
"""

from dataclasses import dataclass
from typing import NamedTuple

from pagewatch.vocab.blindspots import BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions


@dataclass(frozen=True, slots=True)
class Header:
    """How a recording was made; known before the first epoch."""

    version: int
    """Of the format; see ``docs/format.md``."""
    created_unix_s: float
    """When the recording began, seconds since 1970 UTC. Everything else counts from here."""
    command: tuple[str, ...]
    """Arguments of the program that was recorded."""
    method: str
    """How writes were tracked, such as ``uffd-async``."""
    hz: float
    """Epochs a second that were asked for."""
    page_size: int
    """Bytes of a page on the machine that recorded."""
    kernel: str
    """Release of the kernel, such as ``6.12.1``."""
    machine: str
    """Such as ``x86_64``."""


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process of the recording."""

    pid: int
    parent_pid: int
    name: str
    first_ns: int
    """When it was first seen."""
    last_ns: int
    """When it ended or was given up; for a process that outlived the recording, the recording's end."""
    exit_status: int | None
    """Exit code, or minus the number of the signal that ended it; None where it is not known."""
    ended_reason: str
    """Completes "process PID ..."; empty for one that was still being tracked at the end."""


@dataclass(frozen=True, slots=True)
class MappingRow:
    """A mapping and its life time: the same range and name, seen without a gap, is one row."""

    pid: int
    mapping: Mapping
    """As it was when first seen."""
    first_ns: int
    last_ns: int | None
    """When it was first found missing; None if it was still there at the end."""


@dataclass(frozen=True, slots=True)
class EpochRow:
    """What one process wrote between two collects."""

    pid: int
    index: int
    """Counts the epochs of this process from 0."""
    started_ns: int
    """When the collect that ended this epoch began."""
    ended_ns: int
    """When that collect was done."""
    regions: Regions
    """The written pages, ``assumed`` ones included."""
    assumed: Regions
    """Pages reported as written only because they were not watched."""
    blind_spots: tuple[BlindSpot, ...]
    """Ranges whose writes may have been missed in this epoch."""


class Note(NamedTuple):
    """Something worth knowing that happened while recording."""

    at_ns: int
    text: str
