"""What a report says, as plain values that every renderer draws and none computes.

A *page* is a page of one mapping of one process, of ``page_size`` bytes. A *page write* is one page
reported as written by one epoch: a page written a thousand times between two collects counts once, so
page writes are a lower bound of writes and the exact cost of an incremental copy. Times are nanoseconds since
the recording began. Names and details are text of the target's choosing: escape them.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pagewatch.trace.rows import Header, Note
from pagewatch.vocab.blindspots import BlindReason

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """The recording in one line."""

    duration_ns: int
    epochs: int
    rounds: int
    """Collects of all processes together: an epoch of each makes one round."""
    page_writes: int
    unique_pages: int
    """Pages written at least once."""
    assumed_page_writes: int
    """Page writes that are reported only because those pages were not watched."""
    median_round_pages: float
    """Pages written per round: the working set of one collect."""
    peak_round_pages: int

    @property
    def page_writes_per_s(self) -> float:
        """Mean over the whole recording."""
        return self.page_writes * 1e9 / self.duration_ns if self.duration_ns else 0.0

    @property
    def rewrite_factor(self) -> float:
        """In how many epochs a written page was written, on average; 0 where nothing was."""
        return self.page_writes / self.unique_pages if self.unique_pages else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFigure:
    """One process of the recording; a number that was used again, or an exec, does not make it two."""

    pid: int
    parent_pid: int
    name: str
    """The last one it had."""
    first_ns: int
    last_ns: int
    """When it ended, or the recording."""
    exit_status: int | None
    """Exit code, or minus the number of the signal that ended it; None where it is not known."""
    ended_reason: str
    """Completes "process PID ..."; empty for one that outlived the recording."""
    epochs: int
    page_writes: int
    unique_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingFigure:
    """One piece of a process's memory: rows of the recording with one name whose ranges touch, over time."""

    pid: int
    process: str
    """Name of the process; empty where it is not known."""
    label: str
    start: int
    """Lowest address it ever had, bytes."""
    end: int
    """End of the highest, bytes."""
    writable_pages: int
    """Pages that were ever writable or written."""
    unique_pages: int
    page_writes: int
    assumed_page_writes: int
    first_write_ns: int | None
    """End of the first epoch that saw a write to it; None if it was never written."""
    last_write_ns: int | None
    first_ns: int
    """When it was first seen."""
    last_ns: int | None
    """When it was found gone; None if it was there at the end."""
    life_ns: int
    """How long it was there."""

    @property
    def share_written(self) -> float:
        """Share of its writable pages that was written at least once, 0 to 1."""
        return self.unique_pages / self.writable_pages if self.writable_pages else 0.0

    @property
    def rewrite_factor(self) -> float:
        """In how many epochs a written page of it was written, on average."""
        return self.page_writes / self.unique_pages if self.unique_pages else 0.0

    @property
    def page_writes_per_s(self) -> float:
        """Mean over its life."""
        return self.page_writes * 1e9 / self.life_ns if self.life_ns > 0 else 0.0


@dataclass(frozen=True, slots=True)
class HotRange:
    """Neighbouring pages that were written in equally many epochs."""

    mapping: int
    """Index into ``Figures.mappings``."""
    start: int
    """Bytes."""
    end: int
    epochs: int
    """In how many epochs each of them was written."""
    of_epochs: int
    """Epochs of the process."""


@dataclass(frozen=True, slots=True)
class RewriteBin:
    """How many pages were written in ``at_least`` to ``at_most`` epochs."""

    at_least: int
    at_most: int
    pages: int


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Writes over time. A column is one round or several whole ones, so that all its numbers are exact."""

    edges_ns: I64
    """When columns begin and end: one more than there are columns."""
    rounds: I64
    """Rounds in each column."""
    page_writes: I64
    unique_pages: I64
    """Pages written at least once in the column: the working set of that window."""
    pages_so_far: I64
    """Pages written at least once since the recording began."""

    def __len__(self) -> int:
        return len(self.page_writes)

    @property
    def page_writes_per_s(self) -> npt.NDArray[np.float64]:
        """Page writes a second in each column; 0 in a column that took no time."""
        seconds = np.diff(self.edges_ns) / 1e9
        return np.divide(self.page_writes, seconds, out=np.zeros(len(self)), where=seconds > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """Writes by address (rows, ascending, process by process) and time (the columns of the timeline).

    Only memory near writes has rows: long stretches that were never written are cut out. A mapping gets
    rows by the square root of its size, so that small ones stay visible beside large ones.
    """

    row_start: npt.NDArray[np.uint64]
    """Lowest address of each row, bytes."""
    row_end: npt.NDArray[np.uint64]
    """End of the highest."""
    row_pages: I64
    """Pages of each row, without what is cut out inside it."""
    row_mapping: I64
    """The mapping at the row's start, as an index into ``Figures.mappings``."""
    row_blocks: I64
    """How many separate stretches of memory share the row: 1 unless there are very many."""
    cuts: npt.NDArray[np.bool_]
    """Whether memory is cut out, or a mapping begins, between the row before and this one."""
    page_writes: I64
    """Rows x columns."""
    rounds: I64
    """Rounds in each column."""

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """Rows x columns: share of the row's pages that was written per round, 0 to 1."""
        chances = np.maximum(self.row_pages[:, None] * self.rounds[None, :].astype(np.float64), 1.0)
        share: npt.NDArray[np.float64] = self.page_writes / chances
        return share

    def bands(self) -> list[tuple[int, int, int]]:
        """Neighbouring rows of one mapping: (mapping, first row, end row), from top to bottom."""
        if not len(self.row_mapping):
            return []
        firsts = np.flatnonzero(np.append(True, self.row_mapping[1:] != self.row_mapping[:-1])).tolist()
        ends = [*firsts[1:], len(self.row_mapping)]
        return [(int(self.row_mapping[a]), a, b) for a, b in zip(firsts, ends, strict=True)]

    def borders(self) -> list[int]:
        """Rows above which a line may part two mappings: both are tall enough not to drown in lines."""
        bands = self.bands()
        least = len(self.row_mapping) // 80
        return [
            first for (_, above, _), (_, first, end) in pairwise(bands) if first - above > least and end - first > least
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindFigure:
    """Memory of one process in which writes may have gone unseen, for one reason."""

    pid: int
    reason: BlindReason
    pages: int
    """Pages concerned at some time."""
    epochs: int
    """Epochs concerned."""
    of_epochs: int
    """Epochs of the process."""
    ranges: tuple[tuple[int, int], ...]
    """The memory concerned, bytes, ascending; what touches or overlaps is one range."""
    details: tuple[str, ...]
    """What was noted beyond the reason, at most a hundred, such as names of mappings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlindSummary:
    """Memory of any process in which writes may have gone unseen, for one reason."""

    reason: BlindReason
    pages: int
    """Pages concerned at some time, summed over processes."""
    n_ranges: int
    pids: tuple[int, ...]
    """The processes concerned, ascending."""
    epochs: int
    """Epochs concerned, summed over those processes."""
    of_epochs: int
    """Epochs of those processes."""
    example: str
    """What was noted of the process with most of that memory; may be empty."""
    example_pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything a report says."""

    header: Header
    complete: bool
    """Whether the recording was ended in order; if not, it holds what was flushed before it broke off."""
    ended_reason: str
    notes: tuple[Note, ...]
    totals: Totals
    processes: tuple[ProcessFigure, ...]
    mappings: tuple[MappingFigure, ...]
    """Writable or written ones, most page writes first."""
    hottest: tuple[HotRange, ...]
    """The pages written in most epochs, at most twenty ranges, hottest first."""
    rewrites: tuple[RewriteBin, ...]
    """All written pages by the number of epochs that saw them, in powers of two."""
    timeline: Timeline
    heatmap: Heatmap
    blind_spots: tuple[BlindFigure, ...]
    """By process and reason."""
    blind_reasons: tuple[BlindSummary, ...]
    """The same by reason alone, most memory first."""
