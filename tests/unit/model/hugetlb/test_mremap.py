import errno

import pytest

from pagewatch.model.invariants import check
from pagewatch.model.uffd.context import Feature
from support.hugetlb_world import HugeArea
from support.modelled import WRITTEN

HUGE = 1 << 21


def test_moving_carries_contents_and_drops_protection() -> None:
    area = HugeArea()
    area.process.store(area.at(1, 9), b"moved")
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, area.n_bytes)
    uffd.writeprotect(area.start, area.n_bytes)
    new = area.process.mremap(area.start, area.n_bytes, area.n_bytes, flags=3, target=1 << 32)
    assert area.process.load(new + HUGE + 9, 5) == b"moved"
    assert [r.start for r in area.process.scan(new, new + 2 * HUGE, WRITTEN).regions] == [new + HUGE]
    check(area.kernel.machine)


def test_shrinking_unmaps_whole_huge_pages() -> None:
    area = HugeArea()
    assert area.process.mremap(area.start, 2 * HUGE, 4096) == area.start
    assert [(vma.start, vma.end) for vma in area.process.areas] == [(area.start, area.at(1))]


@pytest.mark.parametrize(
    ("offset", "old", "new", "flags", "target"),
    [
        (0, HUGE, 3 * HUGE, 1, 0),
        (4096, HUGE, HUGE, 3, 1 << 32),
        (0, HUGE, HUGE, 3, (1 << 32) + 4096),
        (0, HUGE, HUGE, 5, 0),
    ],
    ids=["grow", "misaligned", "misaligned-target", "dontunmap"],
)
def test_what_would_need_a_reservation_or_part_of_a_page_is_refused(
    offset: int, old: int, new: int, flags: int, target: int
) -> None:
    area = HugeArea()
    with pytest.raises(OSError, match="mremap") as caught:
        area.process.mremap(area.start + offset, old, new, flags=flags, target=target)
    assert caught.value.errno == errno.EINVAL
