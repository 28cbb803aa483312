"""Kernels that get it wrong, each in its own way: the rounds must catch them all."""

from collections.abc import Callable

import pytest

from pagewatch.linux.probes.rounds import finds_stores
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions
from pagewatch.vocab.scan import Scan

START = 100 * PAGE_SIZE
N_PAGES = 8


class Kernel:
    """Memory and its scanner in one, in which everything works."""

    start = START
    end = START + N_PAGES * PAGE_SIZE

    def __init__(self) -> None:
        self.written: set[int] = set()
        self.scans = 0

    def store(self, offset: int) -> None:
        self.written.add(self.start + offset // PAGE_SIZE * PAGE_SIZE)

    def protect(self) -> None:
        self.written.clear()

    def reported(self) -> set[int]:
        return set(self.written)

    def scan(
        self,
        start: int,
        end: int,
        query: Query,
        *,
        protect: bool = False,
        **_others: object,
    ) -> Scan:
        assert (start, end) == (self.start, self.end)
        assert query.mask == Category.WRITTEN
        self.scans += 1
        found = Regions.from_pages(sorted(self.reported()))
        if protect:
            self.protect()
        return Scan(regions=found, walk_end=end, complete=True)


class SeesNothing(Kernel):
    def reported(self) -> set[int]:
        return set()


class SeesEverything(Kernel):
    def reported(self) -> set[int]:
        return {START + page * PAGE_SIZE for page in range(N_PAGES)}


class SeesANeighbour(Kernel):
    def reported(self) -> set[int]:
        return {page + PAGE_SIZE for page in self.written}


class ArmsOnlyOnce(Kernel):
    """Writes of the second round go unseen, as if arming again had no effect on the hardware."""

    def reported(self) -> set[int]:
        return self.written if self.scans == 1 else set()


class NeverProtects(Kernel):
    def protect(self) -> None:
        pass


class ProtectsOnlyTheFirstTime(Kernel):
    def protect(self) -> None:
        if self.scans == 1:
            self.written.clear()


def test_a_kernel_that_works_passes() -> None:
    kernel = Kernel()
    assert finds_stores(kernel, kernel).ok


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (SeesNothing, "round 1 .* nothing"),
        (SeesEverything, "round 1 .* bytes 0-"),
        (SeesANeighbour, "round 1 "),
        (ArmsOnlyOnce, "round 2 .* nothing"),
        (NeverProtects, "round 2 "),
        (ProtectsOnlyTheFirstTime, "right after arming"),
    ],
)
def test_a_kernel_that_does_not_is_caught(broken: Callable[[], Kernel], reason: str) -> None:
    kernel = broken()
    answer = finds_stores(kernel, kernel)
    assert not answer.ok
    with pytest.raises(ValueError, match=reason):
        raise ValueError(answer.reason)


def test_one_huge_page_is_asked_for_as_a_whole() -> None:
    class Huge(Kernel):
        def store(self, _: int) -> None:
            self.written.update(START + page * PAGE_SIZE for page in range(N_PAGES))

    kernel = Huge()
    assert finds_stores(kernel, kernel, pages=(0, 0), page_bytes=N_PAGES * PAGE_SIZE).ok
    assert not finds_stores(Huge(), Huge()).ok
