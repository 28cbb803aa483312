import errno

import pytest

from pagewatch.model import Signal
from pagewatch.model.invariants import check
from pagewatch.model.uffd.context import Feature
from support.hugetlb_world import HugeArea

HUGE = 1 << 21


class HugeFile(HugeArea):
    def __init__(self) -> None:
        super().__init__()
        self.file = self.kernel.memfd(2 * HUGE, huge="2M")
        self.shared = self.process.mmap(2 * HUGE, file=self.file, shared=True)
        self.private = self.process.mmap(2 * HUGE, file=self.file)
        self.process.store(self.shared, b"a")
        self.process.store(self.shared + HUGE, b"b")
        self.process.store(self.private + HUGE, b"c")


def test_truncation_takes_private_copies_too() -> None:
    area = HugeFile()
    area.kernel.truncate(area.file, HUGE)
    assert area.process.load(area.shared, 1) == b"a"
    for start in (area.shared, area.private):
        with pytest.raises(Signal):
            area.process.load(start + HUGE, 1)
    check(area.kernel.machine)


def test_a_hole_takes_whole_pages_and_zeroes_the_rest() -> None:
    area = HugeFile()
    area.process.store(area.shared + HUGE - 1, b"z")
    area.kernel.punch_hole(area.file, HUGE - 4096, HUGE + 4096)
    assert area.process.load(area.shared, 1) == b"a"
    assert area.process.load(area.shared + HUGE - 1, 2) == bytes(2)
    assert area.file.cached(512) is not None  # the load brought in a fresh one
    assert area.process.load(area.private + HUGE, 1) == b"\0"
    check(area.kernel.machine)


@pytest.mark.parametrize(("take", "stays"), [("truncate", False), ("punch", True)])
def test_protection_outlives_a_hole_and_not_a_truncation(take: str, *, stays: bool) -> None:
    area = HugeFile()
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.shared, 2 * HUGE)
    uffd.writeprotect(area.shared, 2 * HUGE)
    if take == "truncate":
        area.kernel.truncate(area.file, HUGE)
    else:
        area.kernel.punch_hole(area.file, HUGE, HUGE)
    assert bool(area.process.pagemap(area.shared + HUGE, 1)[0] >> 57 & 1) is stays


def test_a_file_of_huge_pages_has_whole_ones_and_is_not_written_to() -> None:
    area = HugeFile()
    for call in (
        lambda: area.kernel.truncate(area.file, HUGE + 4096),
        lambda: area.kernel.memfd(4096, huge="2M"),
        lambda: area.file.write(0, b"x"),
    ):
        with pytest.raises(OSError, match=r"ftruncate|write") as caught:
            call()
        assert caught.value.errno == errno.EINVAL


def test_reading_a_hole_allocates_nothing() -> None:
    area = HugeArea()
    file = area.kernel.memfd(2 * HUGE, huge="2M")
    assert file.read(HUGE - 2, 4) == bytes(4)
    assert not file.folios
