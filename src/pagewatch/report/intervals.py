"""Sets of page numbers as half-open intervals, counted without ever listing a page.

Everything a report counts reduces to one question: how many pages of a set lie below a point. A set is
a pair of ascending, disjoint i64 arrays (starts, ends).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]

_EMPTY: I64 = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Intervals:
    """An ascending list of disjoint half-open intervals of page numbers."""

    starts: I64 = field(default_factory=_EMPTY.copy)
    ends: I64 = field(default_factory=_EMPTY.copy)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def pages(self) -> int:
        """Pages covered."""
        return int((self.ends - self.starts).sum())

    def below(self, points: Any) -> I64:
        """For each point: how many pages of the set are smaller than it."""
        points = np.asarray(points, np.int64)
        if not len(self.starts):
            return np.zeros(len(points), np.int64)
        total = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        index = np.searchsorted(self.starts, points, side="right") - 1
        known = np.maximum(index, 0)
        inside = np.clip(points - self.starts[known], 0, self.ends[known] - self.starts[known])
        below: I64 = np.where(index < 0, 0, total[known] + inside)
        return below

    def per_bin(self, edges: I64) -> I64:
        """Pages in each of the bins that ``edges`` (ascending, one more than there are bins) bound."""
        return np.diff(self.below(edges))

    def at(self, indices: I64) -> I64:
        """The page numbers with these ranks: the inverse of :meth:`below`."""
        total = np.concatenate([[0], np.cumsum(self.ends - self.starts)])
        interval = np.searchsorted(total, indices, side="right") - 1
        pages: I64 = self.starts[interval] + (indices - total[interval])
        return pages


def in_order(starts: I64, ends: I64) -> Intervals:
    """Disjoint intervals given in any order, sorted; touching ones stay apart."""
    if len(starts) > 1 and (starts[1:] < starts[:-1]).any():
        order = np.argsort(starts)
        starts, ends = starts[order], ends[order]
    return Intervals(starts, ends)


def union(starts: I64, ends: I64) -> Intervals:
    """The set that intervals in any order, overlapping or not, cover; touching ones are merged."""
    if not len(starts):
        return Intervals()
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(ends[order])
    fresh = np.concatenate([[True], starts[1:] > reach[:-1]])
    first = np.flatnonzero(fresh)
    return Intervals(starts[first], reach[np.append(first[1:] - 1, len(reach) - 1)])


def cut(pieces: Intervals, holders: Intervals) -> tuple[Intervals, I64]:
    """Cut ``pieces`` at the bounds of ``holders``; what no holder has is left out.

    :returns: the parts, ascending, and for each the index of its holder.
    """
    if not len(holders):
        return Intervals(), _EMPTY
    # Only the pieces from the first holder to the last: asking for one after the other must not cost all of them.
    near = slice(
        np.searchsorted(pieces.ends, holders.starts[0], side="right"),
        np.searchsorted(pieces.starts, holders.ends[-1], side="left"),
    )
    pieces = Intervals(pieces.starts[near], pieces.ends[near])
    first = np.searchsorted(holders.ends, pieces.starts, side="right")
    last = np.searchsorted(holders.starts, pieces.ends, side="left")
    counts = np.maximum(last - first, 0)
    piece = np.repeat(np.arange(len(pieces)), counts)
    before = np.cumsum(counts) - counts
    holder = np.repeat(first, counts) + np.arange(len(piece)) - np.repeat(before, counts)
    parts = Intervals(
        np.maximum(pieces.starts[piece], holders.starts[holder]),
        np.minimum(pieces.ends[piece], holders.ends[holder]),
    )
    return parts, holder


def without(pages: Intervals, gone: Intervals) -> Intervals:
    """The pages that ``gone`` does not have; its intervals are ascending and disjoint, like all."""
    limits = np.iinfo(np.int64)
    starts, ends = np.append(limits.min, gone.ends), np.append(gone.starts, limits.max)
    real = starts < ends
    return cut(pages, Intervals(starts[real], ends[real]))[0]


class Union:
    """A set that grows by many small steps, at a cost of O(log n) per interval over its life.

    New intervals wait until they outnumber the set, so that no step pays for all that is there.
    """

    _LEAST_BATCH = 4096

    def __init__(self) -> None:
        self._merged = Intervals()
        self._waiting: list[Intervals] = []
        self._n_waiting = 0

    def add(self, more: Intervals) -> None:
        """Add all pages of ``more``."""
        if len(more):
            self._waiting.append(more)
            self._n_waiting += len(more)
        if self._n_waiting > max(self._LEAST_BATCH, len(self._merged)):
            self.merged()

    def merged(self) -> Intervals:
        """All that was added, as one set."""
        if self._waiting:
            parts = [self._merged, *self._waiting]
            self._merged = union(
                np.concatenate([part.starts for part in parts]), np.concatenate([part.ends for part in parts])
            )
            self._waiting, self._n_waiting = [], 0
        return self._merged
