"""Every level of every page-table format, and Hypothesis strategies for what fits there."""

from dataclasses import dataclass

from hypothesis import strategies as st

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import (
    EXCLUSIVE,
    EXEC,
    INVALID,
    PROTNONE,
    USER,
    WRITE,
    EntryFormat,
    PageTableFormat,
)

FORMATS: dict[str, PageTableFormat] = {fmt.name: fmt for fmt in ARCHES.values()}
"""Every format once, without aliases."""


@dataclass(frozen=True)
class Place:
    """A table format, and the whole that it belongs to."""

    fmt: PageTableFormat
    entries: EntryFormat

    def __str__(self) -> str:
        return f"{self.fmt.name}-{self.entries.level}-{self.entries.name}-{self.entries.shift}"


def _places() -> list[Place]:
    found = []
    for fmt in FORMATS.values():
        for entries in fmt.at:
            found.append(Place(fmt, entries))
            found.extend(Place(fmt, below) for below in entries.directories.values())
    return found


PLACES = _places()
"""Every table of every format, those below special directories included."""
LEAF_PLACES = [place for place in PLACES if place.entries.leaf_sizes]
"""Those that can hold leaves."""


def leaf_flags(entries: EntryFormat) -> st.SearchStrategy[int]:
    """Any set of flags that a present leaf can have."""
    supported = entries.supported & ~EXCLUSIVE
    single = [1 << bit for bit in range(supported.bit_length()) if supported >> bit & 1]
    return st.sets(st.sampled_from(single)).map(sum).map(_consistent)


def _consistent(flags: int) -> int:
    if flags & PROTNONE:
        return flags & ~(WRITE | USER | EXEC | INVALID)
    return flags | USER if flags & INVALID else flags


def frames(place: Place, size_bytes: int) -> st.SearchStrategy[int]:
    """Frame numbers at which a page of that size can begin, within 36 bits of physical address, or 32."""
    page_shift = place.entries.page_shift
    physical_bits = 8 * place.entries.entry_bytes if place.entries.entry_bytes == 4 else 36
    n_frames = 1 << physical_bits - page_shift
    pages = size_bytes >> page_shift
    return st.integers(0, n_frames // pages - 1).map(lambda n: n * pages)


def places_of(name: str) -> list[Place]:
    """The tables of one format."""
    return [place for place in PLACES if place.fmt.name == name]


def leaf_places(name: str) -> st.SearchStrategy[Place]:
    """Any table of one format that can hold leaves."""
    return st.sampled_from([place for place in LEAF_PLACES if place.fmt.name == name])
