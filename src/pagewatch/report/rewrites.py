"""In how many epochs each page was written."""

import numpy as np
import numpy.typing as npt

from pagewatch.report.intervals import I64, Intervals
from pagewatch.report.values import RewriteBin


class Rewrites:
    """Epochs per written page, counted at the ends of runs: an epoch costs its runs, not its pages."""

    def __init__(self, written: Intervals) -> None:
        """:param written: all pages that are ever added."""
        self._written = written
        self._steps = np.zeros(written.pages + 1, np.int32)

    def add(self, placed: Intervals) -> None:
        """Count one epoch."""
        # Intervals of one epoch are disjoint, so neither index repeats within its array.
        self._steps[self._written.below(placed.starts)] += 1
        self._steps[self._written.below(placed.ends)] -= 1

    def distribution(self) -> tuple[RewriteBin, ...]:
        """All written pages by the number of epochs that saw them, in powers of two from 1 on."""
        pages_by_epochs = np.bincount(self._per_page())
        bins = []
        at_least = 1
        while at_least < len(pages_by_epochs):
            at_most = 2 * at_least - 1
            bins.append(RewriteBin(at_least, at_most, int(pages_by_epochs[at_least : at_most + 1].sum())))
            at_least *= 2
        return tuple(bins)

    def hottest(self, limit: int) -> list[tuple[int, int, int]]:
        """Ranges of equally often written neighbours, most often first: (start, end, epochs), on the line."""
        counts = self._per_page()
        if not len(counts):
            return []
        changes = np.append(True, counts[1:] != counts[:-1])
        changes[self._written.below(self._written.starts)] = True
        firsts = np.flatnonzero(changes)
        lengths = np.diff(np.append(firsts, len(counts)))
        best = np.lexsort((firsts, -lengths, -counts[firsts]))[:limit]
        starts = self._written.at(firsts[best])
        columns: tuple[I64, I64, npt.NDArray[np.int32]] = starts, starts + lengths[best], counts[firsts[best]]
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _per_page(self) -> npt.NDArray[np.int32]:
        return np.cumsum(self._steps[:-1], dtype=np.int32)
