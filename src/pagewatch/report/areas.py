"""Which mapping a written page belongs to, over the whole life of a recording.

A mapping that grows, moves an edge or changes its rights makes many rows in a recording; a reader
thinks of one heap. So the rows of one process with the same name and file whose ranges touch or overlap
form one **area**. Addresses that are unmapped and reused by something else belong to one area before
and to another after, decided by the time of the epoch.

All areas lie one behind the other on a single **line** of page numbers, ordered by process and
address, with a hole of a page between neighbours. Positions on the line are what reports count in: sets
on it need no process, and pages of two areas never meet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pagewatch.report.intervals import I64, Intervals, cut, in_order, union, without
from pagewatch.trace.format import MAX_ADDRESS
from pagewatch.trace.rows import MappingRow, ProcessRow
from pagewatch.vocab.errors import InvalidArgument
from pagewatch.vocab.regions import Regions

UNMAPPED_LABEL = "[not mapped]"
"""Of written pages that no mapping of the recording explains."""

_LINE_LIMIT = 1 << 62
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Area:
    """One piece of a process's memory, as a reader thinks of it; its pages are addresses over the page size."""

    pid: int
    label: str
    start_page: int
    end_page: int
    writable: Intervals
    """Pages that were writable at some time."""
    first_ns: int
    last_ns: int | None
    """When it was found gone; None if it was there at the end."""
    explained: bool = True
    """Whether the recording has a mapping for it; if not, its bounds mean nothing."""


class Areas:
    """All areas of a recording on the line; see the module."""

    def __init__(self, mappings: Sequence[MappingRow], processes: Sequence[ProcessRow], *, page_size: int) -> None:
        """:raises InvalidArgument: the mappings cover more memory than can be real."""
        born_ns = {row.pid: row.first_ns for row in reversed(processes)}
        groups = sorted(
            ((_area(chain, page_size), chain) for chain in _chains(mappings)),
            key=lambda group: (born_ns.get(group[0].pid, 0), group[0].pid, group[0].start_page),
        )
        self.page_size = page_size
        self.areas: list[Area] = []
        self._bases = [0]
        self._strays: dict[int, int] = {}
        rows: dict[int, list[tuple[int, MappingRow]]] = {}
        for area, chain in groups:
            index = self._append(area)
            rows.setdefault(area.pid, []).extend((index, row) for row in chain)
        self._layouts = {pid: _Layout(of_pid, self) for pid, of_pid in rows.items()}

    def place(self, pid: int, regions: Regions, *, began_ns: int, ended_ns: int) -> Intervals:
        """A process's pages as positions on the line.

        Pages that no mapping explains get an area of their own, at the end of the line.

        :param began_ns: when the collect that reported them began; ``ended_ns``: when it was done.
        """
        pages = _pages_of(regions, self.page_size)
        layout = self._layouts.get(pid)
        placed, stray = layout.place(pages, began_ns, ended_ns) if layout else (Intervals(), pages)
        if not len(stray):
            return placed
        if pid not in self._strays:
            end_page = MAX_ADDRESS // self.page_size
            area = Area(pid, UNMAPPED_LABEL, 0, end_page, Intervals(), began_ns, None, explained=False)
            self._strays[pid] = self._append(area)
        base = self._bases[self._strays[pid]]
        return in_order(np.append(placed.starts, stray.starts + base), np.append(placed.ends, stray.ends + base))

    def edges(self) -> I64:
        """Where each area begins on the line, and the end of the line."""
        return np.array(self._bases, np.int64)

    def shift(self, index: int) -> int:
        """What to add to a page number of an area to get its position on the line."""
        return self._bases[index] - self.areas[index].start_page

    def holding(self, positions: Any) -> list[int]:
        """Indices of the areas at positions on the line."""
        found = np.searchsorted(self.edges(), np.asarray(positions, np.int64), side="right") - 1
        return [int(index) for index in found]

    def address(self, index: int, position: int) -> int:
        """The address (bytes) of a position in an area, its end included."""
        return (position - self.shift(index)) * self.page_size

    def counted(self, index: int, written: Intervals) -> tuple[int, int, int]:
        """The lowest and the end address (bytes) of an area, and its pages that were writable or written.

        :param written: pages on the line, of any areas.
        """
        area, shift = self.areas[index], self.shift(index)
        whole = Intervals(np.array([area.start_page + shift]), np.array([area.end_page + shift]))
        own = cut(written, whole)[0]
        pages = union(
            np.append(own.starts, area.writable.starts + shift),
            np.append(own.ends, area.writable.ends + shift),
        )
        bounds = whole if area.explained else own
        start, end = int(bounds.starts[0]), int(bounds.ends[-1])
        return self.address(index, start), self.address(index, end), pages.pages

    def _append(self, area: Area) -> int:
        end = self._bases[-1] + area.end_page - area.start_page + 1
        if end > _LINE_LIMIT:
            raise InvalidArgument("the recording's mappings cover more memory than processes can have")
        self.areas.append(area)
        self._bases.append(end)
        return len(self.areas) - 1


class _Layout:
    """Where one process's pages lie on the line, at any time of the recording."""

    def __init__(self, rows: list[tuple[int, MappingRow]], areas: Areas) -> None:
        rows.sort(key=lambda pair: pair[1].first_ns)
        bounds = [_page_range(row, areas.page_size) for _, row in rows]
        self._start = np.array([start for start, _ in bounds], np.int64)
        self._end = np.array([end for _, end in bounds], np.int64)
        self._shift = np.array([areas.shift(index) for index, _ in rows], np.int64)
        self._first_ns = np.array([row.first_ns for _, row in rows], np.int64)
        self._last_ns = np.array([_NEVER if row.last_ns is None else row.last_ns for _, row in rows], np.int64)
        self._alive = np.ones(len(rows), np.bool_)
        self._ever = self._now = self._paint(self._alive)

    def place(self, pages: Intervals, began_ns: int, ended_ns: int) -> tuple[Intervals, Intervals]:
        """Positions on the line, and the pages that have none."""
        alive = (self._first_ns <= ended_ns) & (self._last_ns > began_ns)
        if not np.array_equal(alive, self._alive):
            self._alive, self._now = alive, self._paint(alive)
        placed, pages = _move(pages, *self._now)
        if len(pages):
            # Mapped and unmapped between two looks at the layout: the area that was ever there will do.
            more, pages = _move(pages, *self._ever)
            placed = Intervals(np.append(placed.starts, more.starts), np.append(placed.ends, more.ends))
        return in_order(placed.starts, placed.ends), pages

    def _paint(self, chosen: npt.NDArray[np.bool_]) -> tuple[Intervals, I64]:
        """The chosen rows as disjoint intervals with their shifts; where rows overlap, the latest wins."""
        rows = np.flatnonzero(chosen)
        order = rows[np.argsort(self._start[rows], kind="stable")]
        starts, ends = self._start[order], self._end[order]
        if not (starts[1:] < ends[:-1]).any():
            return Intervals(starts, ends), self._shift[order]
        edges = np.unique(np.concatenate([starts, ends]))
        owner = np.full(len(edges) - 1, -1, np.int64)
        for row in rows.tolist():  # ascending by first_ns
            first, last = np.searchsorted(edges, [self._start[row], self._end[row]])
            owner[first:last] = row
        owned = owner >= 0
        return Intervals(edges[:-1][owned], edges[1:][owned]), self._shift[owner[owned]]


def _move(pages: Intervals, holders: Intervals, shifts: I64) -> tuple[Intervals, Intervals]:
    """What the holders have of ``pages``, shifted by its holder's shift, and what they do not have."""
    parts, holder = cut(pages, holders)
    left = Intervals() if parts.pages == pages.pages else without(pages, parts)
    shift = shifts[holder]
    return Intervals(parts.starts + shift, parts.ends + shift), left


def _pages_of(regions: Regions, page_size: int) -> Intervals:
    size = np.uint64(page_size)
    starts, ends = regions.array["start"] // size, regions.array["end"] // size
    return Intervals(starts.astype(np.int64), ends.astype(np.int64))


def _page_range(row: MappingRow, page_size: int) -> tuple[int, int]:
    return row.mapping.start // page_size, -(-row.mapping.end // page_size)


def _chains(mappings: Sequence[MappingRow]) -> Iterator[list[MappingRow]]:
    """Rows of one process, name and file whose ranges touch or overlap."""
    alike: dict[tuple[int, str, str, int], list[MappingRow]] = {}
    for row in mappings:
        key = (row.pid, row.mapping.label, row.mapping.device, row.mapping.inode)
        alike.setdefault(key, []).append(row)
    for rows in alike.values():
        rows.sort(key=lambda row: row.mapping.start)
        chain = [rows[0]]
        reach = rows[0].mapping.end
        for row in rows[1:]:
            if row.mapping.start > reach:
                yield chain
                chain = []
            chain.append(row)
            reach = max(reach, row.mapping.end)
        yield chain


def _area(chain: Sequence[MappingRow], page_size: int) -> Area:
    bounds = [_page_range(row, page_size) for row in chain]
    writable = [pair for row, pair in zip(chain, bounds, strict=True) if row.mapping.writable]
    ends_ns = [row.last_ns for row in chain if row.last_ns is not None]
    return Area(
        pid=chain[0].pid,
        label=chain[0].mapping.label,
        start_page=min(start for start, _ in bounds),
        end_page=max(end for _, end in bounds),
        writable=union(
            np.array([start for start, _ in writable], np.int64),
            np.array([end for _, end in writable], np.int64),
        ),
        first_ns=min(row.first_ns for row in chain),
        last_ns=max(ends_ns) if len(ends_ns) == len(chain) else None,
    )
