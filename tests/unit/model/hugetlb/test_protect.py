import errno

import pytest

from pagewatch.model import Signal
from pagewatch.model.invariants import check
from pagewatch.model.uffd.context import Feature
from support.hugetlb_world import SIZES, HugeArea, Size
from support.modelled import PAGE, WRITTEN


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_page_that_may_not_be_written_is_not_and_keeps_its_contents(size: Size) -> None:
    area = HugeArea(size, n_pages=1)
    area.process.store(area.at(0, 3), b"kept")
    area.process.mprotect(area.start, size.n_bytes, 1)
    with pytest.raises(Signal):
        area.process.store(area.start, b"x")
    area.process.mprotect(area.start, size.n_bytes, 0)
    with pytest.raises(Signal):
        area.process.load(area.start, 1)
    check(area.kernel.machine)
    area.process.mprotect(area.start, size.n_bytes, 3)
    area.process.store(area.start, b"x")
    assert area.process.load(area.start, 7) == b"x\0\0kept"
    check(area.kernel.machine)


def test_parts_of_a_huge_page_cannot_be_changed_on_their_own() -> None:
    area = HugeArea()
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    calls = [
        lambda: area.process.mprotect(area.start, PAGE, 1),
        lambda: area.process.munmap(area.start + PAGE, PAGE),
        lambda: uffd.register(area.start, PAGE),
        lambda: uffd.register(area.start + PAGE, area.size.n_bytes),
    ]
    for call in calls:
        with pytest.raises(OSError, match=r"split|munmap|UFFDIO_REGISTER") as caught:
            call()
        assert caught.value.errno == errno.EINVAL
    uffd.register(area.start, area.n_bytes)
    with pytest.raises(OSError, match="UFFDIO_WRITEPROTECT") as caught:
        uffd.writeprotect(area.start, PAGE)
    assert caught.value.errno == errno.EINVAL


def test_closing_the_userfaultfd_leaves_no_bit_and_no_marker() -> None:
    area = HugeArea()
    area.process.store(area.start, b"x")
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, area.n_bytes)
    uffd.writeprotect(area.start, area.n_bytes)
    uffd.close()
    assert area.process.pagemap(area.start, 1)[0] >> 57 & 1 == 0
    assert area.process.pagemap(area.at(1), 1)[0] >> 57 & 1 == 0
    assert [r.start for r in area.process.scan(area.start, area.end, WRITTEN).regions] == [area.start]
    check(area.kernel.machine)
