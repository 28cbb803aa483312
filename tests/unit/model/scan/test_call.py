"""The ioctl's arguments, limits and walk_end; the figures are those of experiments on a real kernel."""

import errno

import pytest

from pagewatch.model import Quirks
from pagewatch.model.scan.call import CHECK_WPASYNC, WP_MATCHING, ScanArg
from pagewatch.vocab.categories import Category as Cat
from pagewatch.vocab.query import Query
from support.modelled import ALL, PAGE, PRESENT, WRITTEN, Area


@pytest.fixture
def sparse() -> Area:
    area = Area(32)
    area.store(2, 3, 5, 8, 9, 10, 20)
    return area


@pytest.mark.parametrize(("max_pages", "walk_end"), [(2, 5), (3, 8), (5, 10), (7, 32)])
def test_walk_end_is_the_first_matching_page_that_max_pages_left_out(
    sparse: Area, max_pages: int, walk_end: int
) -> None:
    reply = sparse.raw(PRESENT, max_pages=max_pages)
    assert reply.walk_end == sparse.at(walk_end)
    assert reply.found_pages == max_pages


@pytest.mark.parametrize(("vec_len", "walk_end"), [(1, 5), (3, 20), (4, 32)])
def test_walk_end_is_the_first_matching_page_without_room(sparse: Area, vec_len: int, walk_end: int) -> None:
    reply = sparse.raw(PRESENT, vec_len=vec_len)
    assert (reply.result, reply.walk_end) == (vec_len, sparse.at(walk_end))


def test_without_returned_categories_all_touching_pages_merge(sparse: Area) -> None:
    assert sparse.rows(Query()) == [(0, 32, Cat(0))]


def test_inversion_selects_but_what_is_reported_is_raw(sparse: Area) -> None:
    rows = sparse.rows(Query(inverted=Cat.SWAPPED, mask=Cat.SWAPPED | Cat.PRESENT, returned=Cat.PRESENT | Cat.SWAPPED))
    assert rows == [(2, 4, Cat.PRESENT), (5, 6, Cat.PRESENT), (8, 11, Cat.PRESENT), (20, 21, Cat.PRESENT)]


def test_adjacent_areas_merge_and_a_gap_separates() -> None:
    area = Area(16)
    area.store(*range(16))
    area.process.mprotect(area.at(4), 4 * PAGE, 1)
    assert area.rows(PRESENT) == [(0, 16, Cat.PRESENT)]
    area.process.munmap(area.at(8), PAGE)
    assert area.rows(PRESENT) == [(0, 8, Cat.PRESENT), (9, 16, Cat.PRESENT)]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"size": 0}, errno.EINVAL),
        ({"size": 88}, errno.EINVAL),
        ({"size": 104}, errno.EINVAL),
        ({"flags": 4}, errno.EINVAL),
        ({"start": 1}, errno.EINVAL),
        ({"vec": 0, "vec_len": 1}, errno.EINVAL),
        ({"end": 0}, errno.EFAULT),
        ({"end": 1 << 47}, errno.EFAULT),
        ({"vec_len": 1 << 43}, errno.EFAULT),
        ({"vec": 1 << 63}, errno.EFAULT),
    ],
)
def test_bad_arguments_have_the_kernels_errno_and_leave_walk_end_alone(change: dict[str, int], error: int) -> None:
    area = Area(4)
    arg = {"start": area.start, "end": area.end, "query": ALL, "vec_len": 8} | change
    reply = area.process.pagemap_scan(ScanArg(**arg))
    assert (reply.result, reply.walk_end) == (-error, None)


def test_the_first_check_that_fails_gives_the_errno() -> None:
    area = Area(4)
    bad_start_and_range = ScanArg(start=area.start + 1, end=0, query=ALL, vec_len=8)
    assert area.process.pagemap_scan(bad_start_and_range).result == -errno.EINVAL


def test_an_end_inside_a_page_is_rounded_up() -> None:
    area = Area(4)
    reply = area.process.pagemap_scan(ScanArg(start=area.start, end=area.start + 1, query=Query(), vec_len=8))
    assert reply.walk_end == area.at(1)


def test_an_empty_range_finds_nothing() -> None:
    area = Area(4)
    assert area.raw(last=0).result == 0


@pytest.mark.parametrize(("regions", "walk_end"), [(512, 4096), (513, 1024)])
def test_more_than_512_regions_leave_walk_end_at_the_last_chunk(regions: int, walk_end: int) -> None:
    area = Area(4096)
    area.store(*range(0, 2 * regions, 2))
    reply = area.raw(PRESENT)
    assert (reply.result, reply.walk_end) == (regions, area.at(walk_end))


def test_a_kernel_without_that_bug_says_the_end() -> None:
    area = Area(4096, quirks=Quirks(scan_stale_walk_end=False))
    area.store(*range(0, 1026, 2))
    assert area.raw(PRESENT).walk_end == area.end


@pytest.mark.parametrize(("flags", "counted"), [(0, 1576), (WP_MATCHING, 1300)])
def test_a_resume_loop_counts_the_last_chunk_twice_unless_it_protects(flags: int, counted: int) -> None:
    area = Area(4096)
    area.armed()
    area.store(*range(0, 2600, 2))
    position, total = area.start, 0
    while position < area.end:
        arg = ScanArg(start=position, end=area.end, query=WRITTEN, vec_len=2000, flags=flags)
        reply = area.process.pagemap_scan(arg)
        total += reply.found_pages
        position = reply.walk_end if reply.walk_end and reply.regions else area.end
    assert total == counted


def test_eperm_after_earlier_areas_were_protected_loses_the_count_but_not_the_regions() -> None:
    area = Area(16)
    uffd = area.process.userfaultfd(1 << 15)
    uffd.register(area.start, 8 * PAGE)
    area.store(*range(16))
    reply = area.raw(WRITTEN, flags=WP_MATCHING | CHECK_WPASYNC)
    assert reply.result == -errno.EPERM
    assert reply.regions == ((area.start, area.at(8), int(Cat.WRITTEN)),)
    assert reply.walk_end == area.end
    assert area.pages(last=8) == []


def test_check_is_content_with_gaps() -> None:
    area = Area(16)
    area.armed()
    area.process.munmap(area.at(4), 4 * PAGE)
    assert area.raw(WRITTEN, flags=CHECK_WPASYNC).result == 0


@pytest.mark.parametrize("field", ["inverted", "mask", "anyof", "returned"])
def test_a_kernel_that_does_not_know_guards_refuses_to_look_for_them(field: str) -> None:
    for known, answer in ((True, (0, True)), (False, (-errno.EINVAL, False))):
        area = Area(1, quirks=Quirks(guard_category=known))
        query = Query(**{"mask": Cat.PRESENT, field: Cat.GUARD})
        reply = area.raw(query)
        assert (min(reply.result, 0), reply.walk_end is not None) == answer


@pytest.mark.parametrize(
    ("fails", "answer"), [(True, (-errno.ESRCH, None)), (False, (0, 32 * PAGE))], ids=["fixed", "older"]
)
def test_a_dead_address_space_is_refused_or_empty(*, fails: bool, answer: tuple[int, int | None]) -> None:
    area = Area(32, quirks=Quirks(scan_of_dead_fails=fails))
    area.store(3)
    area.process.exit()
    reply = area.raw(PRESENT)
    assert (reply.result, reply.walk_end and reply.walk_end - area.start) == answer


def test_a_dead_address_space_is_refused_before_the_arguments_are_looked_at(sparse: Area) -> None:
    sparse.process.exit()
    assert sparse.raw(PRESENT, flags=8).result == -errno.ESRCH
