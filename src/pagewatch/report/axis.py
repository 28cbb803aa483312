"""The compact address axis: which memory gets how many rows of a heatmap.

From the bottom up: written pages -> **blocks** (long gaps are cut out) -> groups of blocks (only where
there are more blocks than rows to show them) -> rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagewatch.report.intervals import I64, Intervals

_SHORT_GAP_PAGES = 16
_GAP_SHARE = 8


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """Rows as disjoint ascending ranges of positions on the line; all written pages lie in them."""

    rows: Intervals
    pages: I64
    """Pages of each row, without what is cut out inside it."""
    blocks: I64
    """How many blocks have a part in each row."""
    cuts: npt.NDArray[np.bool_]
    """Whether the row begins a block that the row before does not have."""

    def __len__(self) -> int:
        return len(self.rows)

    def per_row(self, placed: Intervals) -> I64:
        """Pages in each row."""
        if not len(self):
            return np.empty(0, np.int64)
        return placed.per_bin(np.append(self.rows.starts, self.rows.ends[-1]))


def compact_axis(written: Intervals, edges: I64, *, limit: int) -> Axis:
    """An axis of at most ``limit`` rows, at least one row for each block where they suffice.

    :param written: all pages that were ever written, on the line.
    :param edges: where each area begins on the line, and its end.
    """
    blocks = _blocks(written, edges)
    ranks = _row_edges(blocks.ends - blocks.starts, limit)
    firsts, lasts = blocks.at(ranks[:-1]), blocks.at(ranks[1:] - 1)
    first_block = np.searchsorted(blocks.starts, firsts, side="right") - 1
    last_block = np.searchsorted(blocks.starts, lasts, side="right") - 1
    return Axis(
        rows=Intervals(firsts, lasts + 1),
        pages=np.diff(ranks),
        blocks=last_block - first_block + 1,
        cuts=np.append(False, first_block[1:] != last_block[:-1])[: len(firsts)],
    )


def _blocks(written: Intervals, edges: I64) -> Intervals:
    """Written pages and the short gaps between them; never across areas."""
    if not len(written):
        return Intervals()
    area = np.searchsorted(edges, written.starts, side="right") - 1
    begins = np.append(True, area[1:] != area[:-1])
    firsts = np.flatnonzero(begins)
    ends = np.append(firsts[1:], len(written))
    for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
        if end - first > 1:
            part = Intervals(written.starts[first:end], written.ends[first:end])
            begins[first + 1 + _long_gaps(part)] = True
    firsts = np.flatnonzero(begins)
    return Intervals(written.starts[firsts], written.ends[np.append(firsts[1:] - 1, len(written) - 1)])


def _long_gaps(written: Intervals) -> I64:
    """Which gaps to cut: from the longest on, while a gap is over an eighth of what is left to show."""
    gaps = written.starts[1:] - written.ends[:-1]
    order = np.argsort(-gaps, kind="stable")
    longest = gaps[order]
    shown = written.ends[-1] - written.starts[0] - (np.cumsum(longest) - longest)
    is_long = (longest > _SHORT_GAP_PAGES) & (longest * _GAP_SHARE > shown)
    n_long = len(is_long) if is_long.all() else int(np.argmin(is_long))
    return order[:n_long]


def _row_edges(sizes: I64, limit: int) -> I64:
    """Row bounds as ranks among the pages of all blocks, given the blocks' sizes in pages."""
    if not len(sizes):
        return np.zeros(1, np.int64)
    group = _groups(np.sqrt(sizes), max(limit // 4, 1))
    firsts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    pages = np.add.reduceat(sizes, firsts)
    weights = np.sqrt(pages)
    rows = np.minimum(pages, 1 + (weights * (limit - len(pages)) / weights.sum()).astype(np.int64))
    before = np.repeat(np.cumsum(rows) - rows, rows)
    step = np.arange(int(rows.sum())) - before
    # Divide as whole numbers: floats cannot hold every rank.
    edges = np.repeat(np.cumsum(pages) - pages, rows) + np.repeat(pages, rows) * step // np.repeat(rows, rows)
    return np.append(edges, pages.sum())


def _groups(weights: npt.NDArray[np.float64], limit: int) -> I64:
    """Ascending group numbers, at most ``limit`` of them, of neighbours with like sums of weights."""
    if len(weights) <= limit:
        return np.arange(len(weights))
    # Half of the weight is even, so that a giant does not push all others into one group.
    even = weights / weights.sum() + 1 / len(weights)
    middle = np.cumsum(even) - even / 2
    groups: I64 = np.minimum(middle * limit / 2, limit - 1).astype(np.int64)
    return groups
