"""In how many epochs each page was written."""

import numpy as np
import numpy.typing as npt

from pagewatch.report.intervals import I64, Intervals
from pagewatch.report.values import RewriteBin


class Rewrites:
    """Epochs per page, as a step function over positions.

    It is kept as the positions where it steps, with the height of each step: an epoch costs its runs and
    memory grows with the distinct ends of runs, however many pages lie between them.
    """

    _LEAST_BATCH = 4096

    def __init__(self) -> None:
        self._at: I64 = np.empty(0, np.int64)
        self._steps: I64 = np.empty(0, np.int64)
        self._waiting: list[Intervals] = []
        self._n_waiting = 0

    def add(self, placed: Intervals) -> None:
        """Count one epoch."""
        self._waiting.append(placed)
        self._n_waiting += len(placed)
        if self._n_waiting > max(self._LEAST_BATCH, len(self._at)):
            self._merge()

    def distribution(self) -> tuple[RewriteBin, ...]:
        """All written pages by the number of epochs that saw them, in powers of two from 1 on."""
        _, lengths, epochs = self._runs()
        bins = []
        at_least = 1
        while at_least <= epochs.max(initial=0):
            at_most = 2 * at_least - 1
            within = (epochs >= at_least) & (epochs <= at_most)
            bins.append(RewriteBin(at_least, at_most, int(lengths[within].sum())))
            at_least *= 2
        return tuple(bins)

    def hottest(self, limit: int) -> list[tuple[int, int, int]]:
        """Ranges of equally often written neighbours, most often first: (start, end, epochs), on the line."""
        starts, lengths, epochs = self._runs()
        best = np.lexsort((starts, -lengths, -epochs))[:limit]
        columns = starts[best], starts[best] + lengths[best], epochs[best]
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _runs(self) -> tuple[I64, I64, I64]:
        """Starts, lengths and epochs of the longest runs of pages with one number of epochs above 0."""
        self._merge()
        height = np.cumsum(self._steps)[:-1]
        written = height > 0
        return self._at[:-1][written], np.diff(self._at)[written], height[written]

    def _merge(self) -> None:
        ends = [(part.starts, 1) for part in self._waiting] + [(part.ends, -1) for part in self._waiting]
        at = np.concatenate([self._at, *(positions for positions, _ in ends)])
        steps = np.concatenate([self._steps, *(np.full(len(positions), step) for positions, step in ends)])
        self._waiting, self._n_waiting = [], 0
        order = np.argsort(at, kind="stable")
        at, steps = at[order], steps[order]
        first = np.flatnonzero(_fresh(at))
        summed = np.add.reduceat(steps, first) if len(first) else steps
        stepping = summed != 0
        self._at, self._steps = at[first][stepping], summed[stepping]


def _fresh(ascending: I64) -> npt.NDArray[np.bool_]:
    """Whether each number differs from the one before."""
    fresh: npt.NDArray[np.bool_] = np.diff(ascending, prepend=ascending[:1] - 1) != 0
    return fresh
