"""Sizes of huge pages by name, and address slices where a format needs them."""

import re
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import PageTableFormat, size_name
from pagewatch.vocab.errors import InvalidArgument

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def huge_page_bytes(fmt: PageTableFormat, name: str) -> int:
    """The huge page size called "2M", "1G" and so on, in bytes.

    :raises InvalidArgument: the format has no huge pages of that size; the error says which it has.
    """
    sizes = [size for size in fmt.shapes if size > fmt.page_bytes]
    found = re.fullmatch(r"(\d+)([KMG])", name)
    n_bytes = int(found[1]) * _UNITS[found[2]] if found else 0
    if n_bytes not in sizes:
        has = ", ".join(size_name(size) for size in sizes)
        raise InvalidArgument(f"{fmt.name} has no huge pages of {name!r}; it has {has}")
    return n_bytes


def slice_bytes(fmt: PageTableFormat, page_bytes: int) -> int:
    """How much address space around an area must hold pages of the same size only.

    A hugepd makes a whole directory entry one of huge pages, so what that entry spans is the least that
    can be told apart (powerpc ``slice.c``); everywhere else that is a page.
    """
    shape = fmt.shape(page_bytes)
    return max(page_bytes, 1 << fmt.at[shape.level].shift) if shape.n_tables else page_bytes


def stranger_in_slice(mm: "Mm", start: int, end: int, page_bytes: int) -> "Vma | None":
    """The lowest area with pages of another size in a slice that [start, end) would be in.

    What lies in [start, end) itself does not count: it is free, or about to be replaced.
    """
    fmt = mm.machine.fmt
    for vma in mm.vmas.overlapping(*_slices(start, end, _largest_slice(fmt))):
        sliced = [size for size in (page_bytes, vma.page_bytes) if _is_sliced(fmt, size)]
        if vma.page_bytes == page_bytes or not sliced:
            continue
        low, high = _slices(start, end, max(slice_bytes(fmt, size) for size in sliced))
        if max(vma.start, low) < start or end < min(vma.end, high):
            return vma
    return None


def find_gap(mm: "Mm", n_bytes: int, page_bytes: int, alignment: int) -> int | None:
    """The highest free range that is in no slice of pages of another size; None where there is no room."""
    top = mm.top
    while True:
        at = mm.vmas.gap_below(top, n_bytes, alignment)
        stranger = None if at is None else stranger_in_slice(mm, at, at + n_bytes, page_bytes)
        if stranger is None:
            return at
        top = stranger.start & -_largest_slice(mm.machine.fmt)


def _slices(start: int, end: int, grain: int) -> tuple[int, int]:
    return start & -grain, end + grain - 1 & -grain


def _largest_slice(fmt: PageTableFormat) -> int:
    return max((slice_bytes(fmt, size) for size in fmt.shapes if _is_sliced(fmt, size)), default=fmt.page_bytes)


def _is_sliced(fmt: PageTableFormat, size: int) -> bool:
    """Whether pages of a size need address space of their own."""
    return size > fmt.page_bytes and bool(fmt.shape(size).n_tables)
