import numpy as np

from pagewatch.report.intervals import Intervals
from pagewatch.report.rewrites import Rewrites
from pagewatch.report.values import RewriteBin


def made() -> Rewrites:
    rewrites = Rewrites(Intervals(np.array([10, 100]), np.array([20, 101])))
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
    rewrites = Rewrites(Intervals())
    assert rewrites.distribution() == ()
    assert rewrites.hottest(3) == []
