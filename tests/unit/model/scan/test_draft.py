"""The draft of PAGEMAP_SCAN: its own rules, its stricter errors, and the same answers as the final form's."""

import errno
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, Quirks
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.scan.call import CHECK_WPASYNC, WP_MATCHING, ScanArg
from pagewatch.model.scan.draft import OP_GET, OP_WP, DraftArg, DraftReply, from_final, to_final
from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import QueryError
from pagewatch.vocab.query import Query
from support.hugetlb_world import HugeArea
from support.modelled import PAGE, Area

WRITTEN, FILE, PRESENT, SWAPPED, PFNZERO = (1 << bit for bit in range(5))
"""The draft's own bits."""
HUGE = 512
BASE = 1 << 30


def scan(area: Area, first: int = 0, last: int | None = None, **arg) -> DraftReply:
    end = area.end if last is None else area.at(last)
    arg = {"required": WRITTEN, "returned": WRITTEN, "vec_len": 1000} | arg
    return area.process.draft_pagemap_scan(DraftArg(start=area.at(first), end=end, **arg))


def rows(area: Area, reply: DraftReply) -> list[tuple[int, int, int]]:
    """Regions as first page, number of pages, categories."""
    assert reply.result == len(reply.regions)
    return [((start - area.start) // PAGE, n_pages, bits) for start, n_pages, bits in reply.regions]


def armed(n_pages: int, *written: int) -> Area:
    area = Area(n_pages, at=BASE)
    area.store(*range(n_pages))
    area.armed()
    area.store(*written)
    return area


# The operations


def test_get_reports_regions_as_start_and_number_of_pages() -> None:
    area = armed(8, 1, 2, 5)
    reply = scan(area, returned=WRITTEN | PRESENT)
    assert rows(area, reply) == [(1, 2, WRITTEN | PRESENT), (5, 1, WRITTEN | PRESENT)]
    assert reply.walk_end == area.end
    assert area.pages() == [1, 2, 5]


def test_get_and_protect_protects_what_it_reports() -> None:
    area = armed(8, 1, 2, 5)
    assert rows(area, scan(area, flags=OP_GET | OP_WP, max_pages=2)) == [(1, 2, WRITTEN)]
    assert area.pages() == [5]


def test_protecting_alone_looks_at_no_mask() -> None:
    area = armed(8, 1, 2, 5)
    reply = scan(area, flags=OP_WP, required=WRITTEN | FILE, vec_len=0, vec=0)
    assert (reply.result, reply.regions, reply.walk_end) == (0, (), area.end)
    assert area.pages() == []


def test_protecting_alone_covers_huge_pages_and_memory_without_a_table() -> None:
    area = Area(3 * HUGE)
    area.advise(Advice.HUGEPAGE, 0, HUGE)
    area.store(0, 2 * HUGE)
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, 3 * HUGE * PAGE)
    assert len(area.pages()) == 3 * HUGE
    scan(area, flags=OP_WP)
    assert area.pages() == []
    assert area.categories(0) & Category.HUGE


def test_required_anyof_and_excluded_select() -> None:
    area = Area(5, at=BASE)
    area.store(0, 1, 3)
    area.load(2)
    file = Area(2, process=area.process, shared=True, at=area.end)
    file.store(0)
    everything = {
        "first": 0,
        "last": 7,
        "required": 0,
        "returned": 31,
    }  # none of it is armed, so WRITTEN must not select
    assert rows(area, scan(area, **everything | {"anyof": PFNZERO})) == [(2, 1, WRITTEN | PRESENT | PFNZERO)]
    assert [row[:2] for row in rows(area, scan(area, **everything | {"anyof": PFNZERO | FILE}))] == [(2, 1), (5, 1)]
    found = rows(area, scan(area, **everything | {"required": PRESENT, "excluded": PFNZERO | FILE}))
    assert [row[:2] for row in found] == [(0, 2), (3, 1)]


# Limits


def test_it_stops_right_behind_the_last_page_of_its_limit_where_the_final_form_goes_on() -> None:
    area = armed(20, 2, 3, 9)
    assert scan(area, max_pages=2).walk_end == area.at(4)
    final = to_final(DraftArg(start=area.start, end=area.end, required=1, returned=1, vec_len=9, max_pages=2))
    assert final is not None
    assert area.process.pagemap_scan(final).walk_end == area.at(9)


def test_without_room_for_a_region_it_stops_at_the_page_that_needs_one() -> None:
    area = armed(20, 2, 3, 9)
    reply = scan(area, vec_len=1)
    assert (rows(area, reply), reply.walk_end) == ([(2, 2, WRITTEN)], area.at(9))


def test_a_huge_page_that_the_limit_cuts_is_split_to_be_protected() -> None:
    area = Area(HUGE)
    area.advise(Advice.HUGEPAGE, 0, HUGE)
    area.store(0)
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, HUGE * PAGE)
    assert rows(area, scan(area, max_pages=5)) == [(0, 5, WRITTEN)]
    assert area.categories(0) & Category.HUGE
    assert rows(area, scan(area, flags=OP_GET | OP_WP, max_pages=5)) == [(0, 5, WRITTEN)]
    assert area.pages() == list(range(5, HUGE))
    check(area.kernel.machine)


def huge_written() -> HugeArea:
    area = HugeArea(n_pages=2)
    area.process.store(area.start, b"x")
    area.process.store(area.at(1), b"x")
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.start, area.n_bytes)
    return area


def test_part_of_a_hugetlb_page_in_the_range_is_an_error_if_it_is_to_be_protected() -> None:
    area = huge_written()
    arg = {"start": area.at(0), "end": area.at(1, PAGE), "required": 1, "returned": 1, "vec_len": 9}
    assert area.process.draft_pagemap_scan(DraftArg(**arg)).result == 1
    reply = area.process.draft_pagemap_scan(DraftArg(flags=OP_GET | OP_WP, **arg))
    assert (reply.result, reply.walk_end) == (-errno.EINVAL, area.at(1))


def test_a_hugetlb_page_that_the_limit_cuts_ends_the_walk() -> None:
    area = huge_written()
    reply = area.process.draft_pagemap_scan(
        DraftArg(start=area.start, end=area.end, flags=3, required=1, returned=1, vec_len=9, max_pages=HUGE + 1)
    )
    assert (reply.regions, reply.walk_end) == (((area.start, HUGE, 1),), area.at(1))


# Errors


@pytest.mark.parametrize(
    ("wrong", "number"),
    [
        ({"size": 96}, errno.EINVAL),
        ({"flags": 0}, errno.EINVAL),
        ({"flags": 4}, errno.EINVAL),
        ({"last": 0}, errno.EINVAL),
        ({"required": 0}, errno.EINVAL),
        ({"required": 32}, errno.EINVAL),
        ({"returned": 0}, errno.EINVAL),
        ({"returned": 32}, errno.EINVAL),
        ({"vec": 0}, errno.EINVAL),
        ({"vec_len": 0}, errno.EINVAL),
        ({"flags": OP_WP, "max_pages": 1}, errno.EINVAL),
        ({"first": 0.5}, errno.EINVAL),
        ({"first": 3, "last": 2}, errno.EFAULT),
        ({"last": 1 << 60}, errno.EFAULT),
        ({"vec_len": 1 << 60}, errno.EFAULT),
    ],
    ids=str,
)
def test_it_refuses_what_makes_no_sense(wrong: dict, number: int) -> None:
    reply = scan(armed(4), **wrong)
    assert (reply.result, reply.walk_end) == (-number, None)


def test_protecting_alone_needs_no_vector() -> None:
    assert scan(armed(4), flags=OP_WP, vec=0, vec_len=0).result == 0


@pytest.mark.parametrize("mask", ["required", "anyof", "excluded"])
def test_where_written_selects_every_area_has_to_be_armed(mask: str) -> None:
    area = armed(4)
    plain = Area(1, process=area.process, at=area.end)
    plain.store(0)
    assert scan(area, last=5, **{"required": 0, mask: WRITTEN}).result == -errno.EPERM
    assert scan(area, last=5, required=0, anyof=PRESENT).result == 2


# Translation


@st.composite
def requests(draw: st.DrawFn) -> dict[str, int]:
    mask = st.integers(0, 31)
    flags = draw(st.sampled_from([OP_GET, OP_GET | OP_WP, OP_WP]))
    masks = {name: draw(mask) for name in ("required", "anyof", "excluded")}
    if not any(masks.values()):
        masks["required"] = WRITTEN
    limits = {} if flags == OP_WP else {"max_pages": draw(st.integers(0, 40))}
    first = draw(st.integers(0, 60))
    return {
        "flags": flags,
        "returned": draw(st.integers(1, 31)),
        "vec_len": draw(st.integers(1, 30)),
        "start": first,
        "end": draw(st.integers(first + 1, 2 * HUGE + 64)),
        **masks,
        **limits,
    }


def memory(kinds: list[int], *, thp: bool) -> Area:
    """Small pages of every kind, then a file, then perhaps a huge page, then nothing; all of it armed but twice."""
    area = Area(32, at=BASE)
    file = Area(32, process=area.process, shared=True, at=area.end)
    rest = Area(2 * HUGE, process=area.process, at=BASE + HUGE * PAGE)
    for page, kind in enumerate(kinds):
        if kind % 2:
            area.store(page)
        if kind % 3 == 0:
            file.store(page)
    if thp:
        rest.advise(Advice.HUGEPAGE, 0, HUGE)
        rest.store(0)
    for part in (area, file, rest):
        part.armed()
    for page, kind in enumerate(kinds):
        if kind > 6:
            area.store(page)
        elif kind == 5:
            file.load(page)
        elif kind == 4:
            area.advise(Advice.DONTNEED, page, page + 1)
    return area


def whole_state(area: Area) -> list[tuple[int, int, int]]:
    everything = Query(returned=Category.WRITTEN | Category.SWAPPED | Category.PRESENT)
    return list(area.process.pagemap_scan(ScanArg(start=0, end=1 << 46, query=everything, vec_len=10_000)).regions)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.integers(0, 9), min_size=32, max_size=32), st.booleans(), requests())
def test_the_final_form_gives_the_same_answers_through_translation(
    kinds: list[int], thp: bool, request_: dict[str, int]
) -> None:
    """The same pages, the same categories, the same memory afterwards."""
    old, new = memory(kinds, thp=thp), memory(kinds, thp=thp)
    assert old.start == new.start
    places = {name: old.at(request_[name]) for name in ("start", "end")}
    arg = DraftArg(**request_ | places)
    reply = old.process.draft_pagemap_scan(arg)
    final = to_final(arg)
    if final is None:
        assert reply.regions == ()
        return
    answer = new.process.pagemap_scan(final)
    assert (reply.result < 0) is (answer.result < 0)
    as_draft = tuple((start, end - start >> 12, bits >> 1) for start, end, bits in answer.regions)
    assert reply.regions == as_draft
    assert whole_state(old) == whole_state(new)
    assert reply.walk_end is not None
    assert answer.walk_end is not None
    assert reply.walk_end <= answer.walk_end
    check(old.kernel.machine)


@given(requests())
def test_what_was_translated_can_be_translated_back(request_: dict[str, int]) -> None:
    places = {name: request_[name] * PAGE for name in ("start", "end")}
    arg = DraftArg(**request_ | places)
    final = to_final(arg)
    if final is None:
        return
    again = from_final(final)
    assert to_final(again) == final
    if arg.flags & OP_GET:
        assert (again.required, again.excluded) == (arg.required, arg.excluded)


W = Category.WRITTEN


@pytest.mark.parametrize(
    ("query", "flags", "words"),
    [
        (Query(mask=W | Category.HUGE, returned=W), CHECK_WPASYNC, "knew only"),
        (Query(mask=W, returned=Category.GUARD), CHECK_WPASYNC, "knew only"),
        (Query(mask=Category.WPALLOWED, returned=W), 0, "knew only"),
        (Query(inverted=W, anyof=W, returned=W), CHECK_WPASYNC, "inverted alternatives"),
        (Query(mask=W), CHECK_WPASYNC, "one that returns"),
        (Query(returned=W), 0, "a mask that selects"),
        (Query(mask=W, returned=W), 0, "not armed"),
        (Query(mask=Category.PRESENT, returned=W), CHECK_WPASYNC, "not armed"),
    ],
)
def test_what_the_draft_could_not_say_is_refused(query: Query, flags: int, words: str) -> None:
    with pytest.raises(QueryError, match=words):
        from_final(ScanArg(start=0, end=PAGE, query=query, flags=flags, vec_len=1))


def test_without_a_vector_masks_have_no_translation() -> None:
    with pytest.raises(QueryError, match="protected everything"):
        from_final(ScanArg(start=0, end=PAGE, query=Query(mask=W), flags=WP_MATCHING | CHECK_WPASYNC))


def test_other_bits_than_five_have_no_translation() -> None:
    with pytest.raises(QueryError, match="five"):
        to_final(DraftArg(start=0, end=PAGE, required=32, returned=1))


# Races


def test_no_store_is_lost_beside_it() -> None:
    made: list[tuple[Area, list[int]]] = []

    def build() -> list[Callable[[], object]]:
        area, seen = armed(1), []
        made.append((area, seen))
        return [
            lambda: seen.append(scan(area, flags=OP_GET | OP_WP).result),
            lambda: area.process.store(area.start, b"new", cpu=1),
        ]

    for run in enumerate_traces(build):
        assert not run.errors
        area, seen = made[-1]
        assert seen[0] or area.pages() == [0]
    assert len(made) > 3


def test_a_process_that_ended_has_nothing_to_report() -> None:
    area = armed(2, 0)
    area.process.exit()
    assert scan(area).result == 0


def test_older_quirks_are_the_classifiers() -> None:
    kernel = Kernel(quirks=Quirks(scan_holes_written=False))
    process = kernel.spawn()
    start = process.mmap(4 * PAGE)
    process.userfaultfd(Feature.WP_ASYNC).register(start, 4 * PAGE)
    arg = DraftArg(start=start, end=start + 4 * PAGE, required=WRITTEN, returned=WRITTEN, vec_len=4)
    assert process.draft_pagemap_scan(arg).regions == ()
