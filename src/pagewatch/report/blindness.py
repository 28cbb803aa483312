"""What the numbers of a recording cannot contain."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pagewatch.report.intervals import Intervals, Union
from pagewatch.report.values import BlindFigure, BlindSummary
from pagewatch.trace.rows import EpochRow

if TYPE_CHECKING:
    from pagewatch.vocab.blindspots import BlindReason, BlindSpot

_N_DETAILS = 100


class _Concern:
    """One process and reason, summed over epochs."""

    def __init__(self) -> None:
        self.pages = Union()
        self.epochs = 0
        self.details: dict[str, None] = {}


class Blindness:
    """Blind spots, summed by process and reason."""

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._concerns: dict[tuple[int, BlindReason], _Concern] = {}
        self._epochs: Counter[int] = Counter()
        self._before: dict[int, tuple[BlindSpot, ...]] = {}

    def add(self, epoch: EpochRow) -> None:
        """Count one epoch."""
        spots = epoch.blind_spots
        self._epochs[epoch.pid] += 1
        for reason in {spot.reason for spot in spots}:
            self._concerns.setdefault((epoch.pid, reason), _Concern()).epochs += 1
        # Most blind spots last: the same tuple comes with every epoch and says nothing new.
        if self._before.get(epoch.pid) == spots:
            return
        self._before[epoch.pid] = spots
        for spot in spots:
            concern = self._concerns[epoch.pid, spot.reason]
            start, end = spot.start // self._page_size, -(-spot.end // self._page_size)
            concern.pages.add(Intervals(np.array([start], np.int64), np.array([end], np.int64)))
            if spot.detail and len(concern.details) < _N_DETAILS:
                concern.details[spot.detail] = None

    def figures(self) -> tuple[BlindFigure, ...]:
        """The sums, largest first within a process."""
        figures = [self._figure(pid, reason, concern) for (pid, reason), concern in self._concerns.items()]
        return tuple(sorted(figures, key=lambda figure: (figure.pid, -figure.pages, figure.reason.name)))

    def _figure(self, pid: int, reason: "BlindReason", concern: _Concern) -> BlindFigure:
        pages, size = concern.pages.merged(), self._page_size
        return BlindFigure(
            pid=pid,
            reason=reason,
            pages=pages.pages,
            epochs=concern.epochs,
            of_epochs=self._epochs[pid],
            ranges=tuple((a * size, b * size) for a, b in zip(pages.starts.tolist(), pages.ends.tolist(), strict=True)),
            details=tuple(concern.details),
        )


def by_reason(figures: Sequence[BlindFigure]) -> tuple[BlindSummary, ...]:
    """The sums of all processes, largest first: what a reader can take in."""
    groups: dict[BlindReason, list[BlindFigure]] = {}
    for figure in figures:
        groups.setdefault(figure.reason, []).append(figure)
    summaries = [_summary(reason, group) for reason, group in groups.items()]
    return tuple(sorted(summaries, key=lambda summary: (-summary.pages, summary.reason.name)))


def _summary(reason: "BlindReason", group: Sequence[BlindFigure]) -> BlindSummary:
    telling = max(group, key=lambda figure: (bool(figure.details), figure.pages))
    return BlindSummary(
        reason=reason,
        pages=sum(figure.pages for figure in group),
        n_ranges=sum(len(figure.ranges) for figure in group),
        pids=tuple(sorted({figure.pid for figure in group})),
        epochs=sum(figure.epochs for figure in group),
        of_epochs=sum(figure.of_epochs for figure in group),
        example=telling.details[0] if telling.details else "",
        example_pid=telling.pid,
    )
