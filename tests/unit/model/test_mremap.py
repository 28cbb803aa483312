"""mremap: contents move, protection does not, and errors are the kernel's."""

import errno

import pytest

from pagewatch.model import Quirks
from pagewatch.model.invariants import check
from pagewatch.model.mremap import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from support.modelled import PAGE, Area


def errno_of(area: Area, *args: int, **options: int) -> int:
    with pytest.raises(OSError, match="mremap") as caught:
        area.process.mremap(*args, **options)
    return caught.value.errno or 0


def test_a_move_carries_contents_and_drops_protection_and_registration() -> None:
    area = Area(4)
    area.process.store(area.at(2), b"moved")
    area.armed()
    target = area.process.mremap(area.start, 4 * PAGE, 8 * PAGE, flags=MREMAP_MAYMOVE)
    assert area.process.load(target + 2 * PAGE, 5) == b"moved"
    assert not any(word >> 57 & 1 for word in area.process.pagemap(target, 8))
    assert all(vma.uffd is None for vma in area.process.areas)
    check(area.kernel.machine)


def test_a_move_through_a_stale_translation_is_seen_at_the_new_place() -> None:
    area = Area(1)
    area.store(0, cpu=1)
    target = area.process.mremap(
        area.start, PAGE, PAGE, flags=MREMAP_MAYMOVE | MREMAP_FIXED, target=area.start - 16 * PAGE
    )
    area.process.store(target, b"new", cpu=1)
    assert area.process.load(target, 3, cpu=0) == b"new"


def test_dontunmap_leaves_the_old_place_registered_and_empty() -> None:
    area = Area(2)
    area.store(0, 1)
    area.armed()
    target = area.process.mremap(area.start, 2 * PAGE, 2 * PAGE, flags=MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
    assert area.process.load(target, 1) == b"x"
    assert area.load(0) == b"\0"
    assert area.process.mm.vmas.at(area.start).uffd is not None
    check(area.kernel.machine)


def test_growth_in_place_stays_registered_and_the_new_part_is_unarmed() -> None:
    area = Area(2)
    area.process.munmap(area.at(1), PAGE)
    uffd = area.process.userfaultfd(1 << 15)
    uffd.register(area.start, PAGE)
    uffd.writeprotect(area.start, PAGE)
    assert area.process.mremap(area.start, PAGE, 2 * PAGE) == area.start
    assert area.pages() == [1]


def test_shrinking_unmaps_the_tail() -> None:
    area = Area(4)
    area.store(*range(4))
    assert area.process.mremap(area.start, 4 * PAGE, PAGE) == area.start
    assert [(v.start, v.end) for v in area.process.areas] == [(area.start, area.at(1))]
    check(area.kernel.machine)


def test_errors() -> None:
    area = Area(4)
    assert errno_of(area, area.start + 1, PAGE, PAGE) == errno.EINVAL
    assert errno_of(area, area.start, PAGE, 0) == errno.EINVAL
    assert errno_of(area, area.start, PAGE, PAGE, flags=8) == errno.EINVAL
    assert errno_of(area, area.start, PAGE, PAGE, flags=MREMAP_FIXED) == errno.EINVAL
    assert errno_of(area, area.start, PAGE, 2 * PAGE, flags=MREMAP_MAYMOVE | MREMAP_DONTUNMAP) == errno.EINVAL
    overlapping = {"flags": MREMAP_MAYMOVE | MREMAP_FIXED, "target": area.start}
    assert errno_of(area, area.start, PAGE, PAGE, **overlapping) == errno.EINVAL
    assert errno_of(area, area.start - 64 * PAGE, PAGE, PAGE) == errno.EFAULT
    assert errno_of(area, area.start, 8 * PAGE, 16 * PAGE, flags=MREMAP_MAYMOVE) == errno.EFAULT
    assert errno_of(area, area.start, PAGE, 8 * PAGE) == errno.ENOMEM


OLD = Quirks(mremap_moves_several=False, mremap_checks_first=False)
"""Before 6.17."""


@pytest.mark.parametrize(("quirks", "survives"), [(Quirks(), True), (OLD, False)], ids=["now", "before 6.17"])
def test_a_refused_move_leaves_its_target_alone_since_checks_come_first(quirks: Quirks, *, survives: bool) -> None:
    area = Area(8, quirks=quirks)
    area.process.mprotect(area.at(1), PAGE, 1)
    there = {"flags": MREMAP_MAYMOVE | MREMAP_FIXED, "target": area.at(4)}
    assert errno_of(area, area.start, 2 * PAGE, 3 * PAGE, **there) == errno.EFAULT
    assert (area.process.mm.vmas.at(area.at(4)) is not None) is survives
    check(area.kernel.machine)


def test_only_a_recent_kernel_moves_several_areas() -> None:
    for quirks, number in ((Quirks(), None), (OLD, errno.EFAULT)):
        area = Area(8, quirks=quirks)
        area.process.mprotect(area.at(1), PAGE, 1)
        there = {"flags": MREMAP_MAYMOVE | MREMAP_FIXED, "target": area.at(4)}
        if number is None:
            assert area.process.mremap(area.start, 2 * PAGE, 2 * PAGE, **there) == area.at(4)
        else:
            assert errno_of(area, area.start, 2 * PAGE, 2 * PAGE, **there) == number


@pytest.mark.parametrize(
    ("quirks", "number"), [(Quirks(), errno.EINVAL), (OLD, errno.EFAULT)], ids=["now", "before 6.17"]
)
def test_what_comes_first_the_overlap_or_that_nothing_is_there(quirks: Quirks, number: int) -> None:
    area = Area(1, quirks=quirks)
    empty = area.start - 64 * PAGE
    onto_itself = {"flags": MREMAP_MAYMOVE | MREMAP_FIXED, "target": empty + PAGE}
    assert errno_of(area, empty, 2 * PAGE, 2 * PAGE, **onto_itself) == number
    onto_itself["target"] = area.start
    assert errno_of(area, area.start, PAGE, PAGE, **onto_itself) == errno.EINVAL


def test_before_6_17_hugetlb_memory_was_refused_to_stay_behind_only_when_its_target_was_gone() -> None:
    for quirks, survives in ((Quirks(), True), (OLD, False)):
        area = Area(512, quirks=quirks, huge="2M")
        target = area.start - (8 << 21)
        area.process.mmap(PAGE, at=target)
        there = {"flags": MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, "target": target}
        assert errno_of(area, area.start, 1 << 21, 1 << 21, **there) == errno.EINVAL
        assert (area.process.mm.vmas.at(target) is not None) is survives
