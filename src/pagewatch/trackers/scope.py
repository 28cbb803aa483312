"""Scopes: which memory a tracker shall keep armed."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from pagewatch.vocab.addresses import page_ceil, page_floor
from pagewatch.vocab.mapping import Mapping


class Scope(Protocol):
    """Chooses what to arm among the mappings of an address space."""

    @property
    def follows_layout(self) -> bool:
        """Whether every collect shall look for new mappings; costs reading the layout."""
        ...

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """What is watched whatever is mapped there; empty where only mappings count."""
        ...

    def wanted(self, mappings: Iterable[Mapping]) -> list[Mapping]:
        """The mappings to arm, cut to the part that is wanted, ascending."""
        ...

    def left_out(self, mappings: Iterable[Mapping]) -> list[Mapping]:
        """Mappings that belong to the scope, but are not armed as long as nobody may write to them; ascending."""
        ...


class Ranges:
    """Fixed byte ranges, whatever is mapped there."""

    def __init__(self, ranges: Sequence[tuple[int, int]], *, follows_layout: bool = False) -> None:
        """:param ranges: (start, end) pairs, page aligned, ascending and disjoint.

        :param follows_layout: whether what is unmapped shall be noticed, at the cost of reading the layout.
        """
        self.ranges = tuple(ranges)
        self.follows_layout = follows_layout

    def wanted(self, mappings: Iterable[Mapping]) -> list[Mapping]:
        """See :class:`Scope`. Cuts at borders of the mapping's own page: half a hugetlb page cannot be armed."""
        mappings = list(mappings)
        return merge_pieces(piece for bounds in self.ranges for piece in pieces_within(mappings, *bounds))

    def left_out(self, _: Iterable[Mapping]) -> list[Mapping]:
        """See :class:`Scope`: nothing."""
        return []


class Everything:
    """All memory that the program can change, now and as it maps more.

    That is whatever is writable, and private anonymous memory that is readable or executable only (code that
    is generated at run time is switched between the two). Left out are reservations without any access and
    read-only views of files; both are taken up when they become writable, and are blind spots until then:
    to arm them would cost page tables and huge pages of code that hardly anybody ever writes.
    """

    follows_layout = True
    ranges: tuple[tuple[int, int], ...] = ()

    def wanted(self, mappings: Iterable[Mapping]) -> list[Mapping]:
        """See :class:`Scope`."""
        return [m for m in mappings if _is_wanted(m)]

    def left_out(self, mappings: Iterable[Mapping]) -> list[Mapping]:
        """See :class:`Scope`."""
        return [m for m in mappings if not _is_wanted(m) and not is_special(m)]


def _is_wanted(mapping: Mapping) -> bool:
    return mapping.writable or (mapping.anonymous and mapping.accessible and not is_special(mapping))


def is_special(mapping: Mapping) -> bool:
    """Whether the kernel made the mapping for its own use: [vdso], [vvar], [vsyscall]."""
    return mapping.name.startswith(("[vdso", "[vvar", "[vsyscall", "[uprobes", "[sigpage", "[vectors"))


def cut(mapping: Mapping, start: int, end: int) -> Mapping:
    """The part of a mapping inside [start, end), grown to borders of the mapping's own pages."""
    return replace(
        mapping,
        start=page_floor(max(start, mapping.start), mapping.page_size),
        end=page_ceil(min(end, mapping.end), mapping.page_size),
    )


def pieces_within(mappings: Iterable[Mapping], start: int, end: int) -> list[Mapping]:
    """The parts of mappings inside [start, end), ascending."""
    return [cut(m, start, end) for m in mappings if start < m.end and m.start < end]


def merge_pieces(pieces: Iterable[Mapping]) -> list[Mapping]:
    """Pieces in ascending order, where two ranges that touch the same hugetlb page give it once."""
    merged: list[Mapping] = []
    for piece in sorted(pieces, key=lambda m: m.start):
        if merged and piece.start < merged[-1].end:
            merged[-1] = replace(merged[-1], end=max(merged[-1].end, piece.end))
        else:
            merged.append(piece)
    return merged
