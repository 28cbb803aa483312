import numpy as np

from pagewatch.report.intervals import Intervals
from pagewatch.report.rewrites import Rewrites
from pagewatch.report.values import RewriteBin


def made() -> Rewrites:
    rewrites = Rewrites()
    for start, end in [(10, 20), (10, 15), (12, 15)]:
        rewrites.add(Intervals(np.array([start]), np.array([end])))
    rewrites.add(Intervals(np.array([19, 100]), np.array([20, 101])))
    return rewrites


def test_pages_are_counted_by_epochs_in_powers_of_two() -> None:
    # 10, 11: twice.  12 to 14: three times.  15 to 18: once.  19: twice.  100: once.
    assert made().distribution() == (RewriteBin(1, 1, 5), RewriteBin(2, 3, 6))


def test_the_hottest_come_first_and_the_longer_before_the_shorter() -> None:
    expected = [(12, 15, 3), (10, 12, 2), (19, 20, 2), (15, 19, 1), (100, 101, 1)]
    assert made().hottest(9) == expected
    assert made().hottest(2) == expected[:2]


def test_nothing_written_has_neither() -> None:
    rewrites = Rewrites()
    assert rewrites.distribution() == ()
    assert rewrites.hottest(3) == []


def test_a_run_of_more_pages_than_memory_holds_is_counted() -> None:
    rewrites = Rewrites()
    rewrites.add(Intervals(np.array([5]), np.array([1 << 50])))
    rewrites.add(Intervals(np.array([7]), np.array([8])))
    assert rewrites.hottest(2) == [(7, 8, 2), (8, 1 << 50, 1)]
    assert rewrites.distribution() == (RewriteBin(1, 1, (1 << 50) - 6), RewriteBin(2, 3, 1))


def test_many_epochs_are_merged_on_the_way() -> None:
    rewrites = Rewrites()
    for epoch in range(3000):
        starts = np.arange(epoch % 7, 100, 7)
        rewrites.add(Intervals(starts, starts + 1))
    assert rewrites._n_waiting <= 2 * Rewrites._LEAST_BATCH
    assert rewrites.distribution()[-1] == RewriteBin(256, 511, 100)
