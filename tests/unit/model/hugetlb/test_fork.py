import pytest

from pagewatch.model.invariants import check
from pagewatch.model.pins import Want
from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from support.hugetlb_world import SIZES, HugeArea, Size
from support.modelled import ALL, WRITTEN


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_each_side_writes_its_own_copy(size: Size) -> None:
    area = HugeArea(size)
    end = area.at(0, size.n_bytes - 8)
    area.process.store(end, b"shared..")
    child = area.process.fork()
    child.store(end, b"child...")
    area.process.store(area.start, b"p")
    assert (area.process.load(end, 8), child.load(end, 8)) == (b"shared..", b"child...")
    assert child.load(area.start, 1) == b"\0"
    check(area.kernel.machine)
    child.exit()
    check(area.kernel.machine)


def test_a_pinned_page_is_copied_for_the_child_at_once() -> None:
    area = HugeArea()
    area.process.store(area.start, b"before")
    with area.process.pin(area.at(0, 8192), 1, Want.WRITE) as pin:
        child = area.process.fork()
        area.process.store(area.at(0, 8192), b"after")
        assert pin.read(0, 5) == b"after"
    assert child.load(area.start, 6) == b"before"
    assert child.load(area.at(0, 8192), 5) == bytes(5)
    check(area.kernel.machine)


@pytest.mark.parametrize("follows", [True, False])
def test_a_child_is_protected_only_if_it_is_watched(*, follows: bool) -> None:
    area = HugeArea()
    area.process.store(area.start, b"x")
    uffd = area.process.userfaultfd(Feature.WP_ASYNC | (Feature.EVENT_FORK if follows else 0))
    uffd.handle_with(lambda: uffd.read() and None)
    uffd.register(area.start, area.n_bytes)
    uffd.writeprotect(area.start, area.n_bytes)
    child = area.process.fork()
    assert bool(child.scan(area.start, area.at(1), WRITTEN).regions) is not follows
    [second] = child.scan(area.at(1), area.end, ALL).regions
    assert bool(second.categories & Category.SWAPPED) is follows  # the marker of a page that never was
    check(area.kernel.machine)
