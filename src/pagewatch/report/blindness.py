"""What the numbers of a recording cannot contain."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from pagewatch.report.intervals import Intervals, Union
from pagewatch.report.values import BlindFigure
from pagewatch.trace.rows import EpochRow

if TYPE_CHECKING:
    from pagewatch.vocab.blindspots import BlindReason, BlindSpot

_N_DETAILS = 5


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
        figures = [
            BlindFigure(
                pid=pid,
                reason=reason,
                pages=concern.pages.merged().pages,
                epochs=concern.epochs,
                of_epochs=self._epochs[pid],
                details=tuple(concern.details),
            )
            for (pid, reason), concern in self._concerns.items()
        ]
        return tuple(sorted(figures, key=lambda figure: (figure.pid, -figure.pages, figure.reason.name)))
