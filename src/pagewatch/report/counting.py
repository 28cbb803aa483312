"""Two passes over the epochs of a recording: first which pages are ever written and when, then how often.

The first pass fixes the axes, the second counts. Neither keeps epochs, and both count by runs of pages:
memory grows with the distinct ends of runs, not with the length of the recording or of its runs.
"""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from pagewatch.report.areas import Areas
from pagewatch.report.axis import Axis, compact_axis
from pagewatch.report.blindness import Blindness
from pagewatch.report.intervals import I64, Intervals, Union
from pagewatch.report.recording import Recording
from pagewatch.report.rewrites import Rewrites
from pagewatch.report.timeline import Columns, columns_of, rounds_of
from pagewatch.report.values import Timeline
from pagewatch.trace.rows import EpochRow
from pagewatch.vocab.errors import InvalidArgument

# No recording of a real process comes near; below them no sum and no product of a report leaves 64 bits.
_MOST_PAGE_WRITES = 1 << 62
_MOST_PAGES = 1 << 48


class Survey:
    """The first pass: what is ever written, and when epochs end."""

    def __init__(self, recording: Recording, pid: int | None) -> None:
        """:param pid: only this process; None for all.

        :raises InvalidArgument: the recording claims more than can be.
        """
        self._recording = recording
        self._pid = pid
        page_size = recording.header.page_size
        self.processes = tuple(row for row in recording.processes if self._wanted(row.pid))
        mappings = [row for row in recording.mappings if self._wanted(row.pid)]
        self.areas = Areas(mappings, self.processes, page_size=page_size)
        self.blindness = Blindness(page_size)
        self.pids: list[int] = []
        written = Union()
        ends_ns: list[int] = []
        pages: list[int] = []
        n_written = n_assumed = 0
        for epoch in self.epochs():
            placed = self.place(epoch)
            written.add(placed)
            self.blindness.add(epoch)
            self.pids.append(epoch.pid)
            ends_ns.append(epoch.ended_ns)
            pages.append(placed.pages)
            n_written += pages[-1]
            n_assumed += epoch.assumed.pages
            if max(n_written, n_assumed) > _MOST_PAGE_WRITES:
                raise InvalidArgument("the recording has more page writes than can have been")
        self.written: Intervals = written.merged()
        if self.written.pages > _MOST_PAGES:
            raise InvalidArgument("the recording has more written pages than machines can have")
        self.rounds: I64 = rounds_of(self.pids)
        self.ends_ns = np.array(ends_ns, np.int64)
        first_of_round = np.flatnonzero(np.diff(self.rounds, prepend=-1))
        self.round_pages: I64 = np.add.reduceat(np.array(pages, np.int64), first_of_round) if pages else self.rounds
        self.duration_ns = recording.ended_ns

    def epochs(self) -> Iterator[EpochRow]:
        """The epochs that are reported on."""
        return (epoch for epoch in self._recording.epochs() if self._wanted(epoch.pid))

    def place(self, epoch: EpochRow) -> Intervals:
        """The written pages of an epoch on the line."""
        return self.areas.place(epoch.pid, epoch.regions, began_ns=epoch.started_ns, ended_ns=epoch.ended_ns)

    def place_assumed(self, epoch: EpochRow) -> Intervals:
        """The assumed pages of an epoch on the line."""
        return self.areas.place(epoch.pid, epoch.assumed, began_ns=epoch.started_ns, ended_ns=epoch.ended_ns)

    def _wanted(self, pid: int) -> bool:
        return self._pid is None or pid == self._pid


class Count:
    """The second pass: page writes by area, by row and column, and by page."""

    def __init__(self, survey: Survey, *, rows: int, columns: int) -> None:
        """:param rows: of the heatmap, at most; ``columns``: of the timeline, at most."""
        self._edges = survey.areas.edges()
        self.axis: Axis = compact_axis(survey.written, self._edges, limit=rows)
        self.columns: Columns = columns_of(survey.rounds, survey.ends_ns, limit=columns)
        self.rewrites = Rewrites()
        self.unique_pages: I64 = survey.written.per_bin(self._edges)
        n_areas = len(survey.areas.areas)
        self.page_writes = np.zeros(n_areas, np.int64)
        self.assumed = np.zeros(n_areas, np.int64)
        self.first_write_ns = np.full(n_areas, -1, np.int64)
        self.last_write_ns = np.full(n_areas, -1, np.int64)
        self._cells = np.zeros((len(self.columns), len(self.axis)), np.int64)
        self._unique_in_column = np.zeros(len(self.columns), np.int64)
        self._pages_so_far = np.zeros(len(self.columns), np.int64)
        seen = Union()
        numbered = zip(self.columns.of_epoch.tolist(), survey.epochs(), strict=True)
        for column, group in groupby(numbered, key=lambda pair: pair[0]):
            window = Union()
            for _, epoch in group:
                placed = survey.place(epoch)
                window.add(placed)
                self._add(column, epoch.ended_ns, placed)
                if len(epoch.assumed):
                    self.assumed += survey.place_assumed(epoch).per_bin(self._edges)
            seen.add(window.merged())
            self._unique_in_column[column] = window.merged().pages
            self._pages_so_far[column] = seen.merged().pages

    def _add(self, column: int, ended_ns: int, placed: Intervals) -> None:
        per_area = placed.per_bin(self._edges)
        hit = per_area > 0
        self.page_writes += per_area
        self.first_write_ns[hit & (self.first_write_ns < 0)] = ended_ns
        self.last_write_ns[hit] = ended_ns
        self._cells[column] += self.axis.per_row(placed)
        self.rewrites.add(placed)

    @property
    def cells(self) -> I64:
        """Page writes, rows x columns."""
        return self._cells.T

    def timeline(self) -> Timeline:
        """The columns with their numbers."""
        return Timeline(
            edges_ns=self.columns.edges_ns,
            rounds=self.columns.rounds,
            page_writes=self._cells.sum(axis=1),
            unique_pages=self._unique_in_column,
            pages_so_far=self._pages_so_far,
        )
