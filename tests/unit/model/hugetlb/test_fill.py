import errno

import pytest

from pagewatch.model.invariants import check
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.model.uffd.fd import Userfaultfd
from support.hugetlb_world import HugeArea
from support.modelled import PAGE, WRITTEN

HUGE = 1 << 21


def watched(mode: Mode = Mode.MISSING, **area) -> tuple[HugeArea, Userfaultfd]:
    made = HugeArea(**area)
    uffd = made.process.userfaultfd(Feature.PAGEFAULT_FLAG_WP)
    uffd.register(made.start, made.n_bytes, mode)
    return made, uffd


@pytest.mark.parametrize("shared", [True, False])
def test_a_copy_fills_whole_pages(*, shared: bool) -> None:
    area, uffd = watched(shared=shared)
    data = b"1".ljust(HUGE, b"\0") + b"2".ljust(HUGE - 1, b"\0") + b"3"
    assert uffd.copy(area.start, data) == 2 * HUGE
    assert area.process.load(area.start, 1) + area.process.load(area.at(1), 1) == b"12"
    assert area.process.load(area.end - 1, 1) == b"3"
    check(area.kernel.machine)


def test_a_copy_may_come_protected_and_replaces_a_marker() -> None:
    area, uffd = watched(Mode.MISSING | Mode.WP)
    uffd.writeprotect(area.start, area.n_bytes)
    uffd.copy(area.start, bytes(HUGE), protect=True)
    uffd.copy(area.at(1), bytes(HUGE))
    assert [r.start for r in area.process.scan(area.start, area.end, WRITTEN).regions] == [area.at(1)]


def _number(call) -> int:
    with pytest.raises(OSError, match=r"UFFDIO|userfaultfd") as caught:
        call()
    return caught.value.errno or 0


def test_what_cannot_be_filled_says_why() -> None:
    area, uffd = watched(shared=True)
    assert _number(lambda: uffd.copy(area.start, bytes(PAGE))) == errno.EINVAL
    assert _number(lambda: uffd.zeropage(area.start, HUGE)) == errno.EINVAL
    assert _number(lambda: uffd.continue_(area.start, HUGE)) == errno.EFAULT
    uffd.copy(area.start, bytes(HUGE))
    assert _number(lambda: uffd.copy(area.start, bytes(HUGE))) == errno.EEXIST
    assert _number(lambda: uffd.continue_(area.start, HUGE)) == errno.EEXIST
    assert _number(lambda: uffd.poison(area.start, HUGE)) == errno.EEXIST
    check(area.kernel.machine)
