import numpy as np
import pytest

from pagewatch.report.areas import UNMAPPED_LABEL, Areas
from pagewatch.vocab.errors import InvalidArgument
from pagewatch.vocab.regions import Regions
from support import recordings
from support.recordings import PAGE


def labels(areas: Areas) -> list[tuple[str, int, int]]:
    return [(area.label, area.start_page, area.end_page) for area in areas.areas]


def test_touching_rows_of_one_name_are_one_area_and_others_are_not() -> None:
    rows = [
        recordings.mapping(10, 20, "/lib/a"),
        recordings.mapping(20, 22, "/lib/a", permissions="r--p"),
        recordings.mapping(22, 30),
        recordings.mapping(31, 32, "/lib/a"),
    ]
    areas = Areas(rows, [], page_size=PAGE)
    assert labels(areas) == [("/lib/a", 10, 22), ("[anonymous]", 22, 30), ("/lib/a", 31, 32)]


def test_processes_stand_in_the_order_of_their_birth() -> None:
    rows = [recordings.mapping(10, 11, "first", pid=9), recordings.mapping(5, 6, "second", pid=3)]
    processes = [recordings.process(9, first_ns=0), recordings.process(3, first_ns=5)]
    assert [label for label, _, _ in labels(Areas(rows, processes, page_size=PAGE))] == ["first", "second"]


def test_the_latest_of_overlapping_rows_gets_the_pages() -> None:
    rows = [recordings.mapping(10, 20, "/old", first_ns=1), recordings.mapping(12, 14, "/new", first_ns=2)]
    areas = Areas(rows, [], page_size=PAGE)
    placed = areas.place(100, recordings.regions([11, 12, 13, 14]), began_ns=5, ended_ns=6)
    assert dict(zip([a.label for a in areas.areas], placed.per_bin(areas.edges()), strict=True)) == {
        "/old": 2,
        "/new": 2,
    }


def test_positions_lead_back_to_addresses() -> None:
    areas = Areas([recordings.mapping(10, 20, "a"), recordings.mapping(500, 510, "b")], [], page_size=PAGE)
    placed = areas.place(100, recordings.regions([12, 507]), began_ns=0, ended_ns=0)
    holders = areas.holding(placed.starts)
    found = [areas.address(i, int(at)) for i, at in zip(holders, placed.starts, strict=True)]
    assert found == [12 * PAGE, 507 * PAGE]


def test_pages_of_no_mapping_have_an_area_that_is_as_large_as_what_was_written() -> None:
    areas = Areas([recordings.mapping(10, 20)], [], page_size=PAGE)
    placed = areas.place(100, recordings.regions([15, 90, 91]), began_ns=7, ended_ns=8)
    assert placed.per_bin(areas.edges()).tolist() == [1, 2]
    assert areas.areas[1].label == UNMAPPED_LABEL
    assert areas.counted(1, placed) == (90 * PAGE, 92 * PAGE, 2)


def test_the_highest_addresses_there_are_can_be_placed() -> None:
    top = (1 << 57) - PAGE
    areas = Areas([], [], page_size=PAGE)
    placed = areas.place(100, Regions([(top, top + PAGE)], page_size=PAGE), began_ns=0, ended_ns=0)
    assert areas.address(0, int(placed.starts[0])) == top


def test_more_mapped_memory_than_can_be_is_refused() -> None:
    rows = [recordings.mapping(0, (1 << 52) - 1, f"/{i}") for i in range(1100)]
    with pytest.raises(InvalidArgument, match="more memory than processes can have"):
        Areas(rows, [], page_size=PAGE)


def test_no_page_gets_lost_or_doubled_whatever_the_layout() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        rows = []
        for i in range(rng.integers(0, 8)):
            start, size, born = rng.integers(0, 50), rng.integers(1, 20), int(rng.integers(0, 5))
            gone = None if rng.random() < 0.5 else born + int(rng.integers(1, 5))
            rows.append(recordings.mapping(start, start + size, f"/{i % 3}", first_ns=born, last_ns=gone))
        areas = Areas(rows, [], page_size=PAGE)
        pages = rng.choice(80, rng.integers(0, 40), replace=False)
        placed = areas.place(100, recordings.regions(pages), began_ns=int(rng.integers(0, 9)), ended_ns=9)
        holders = areas.holding(placed.at(np.arange(placed.pages)))
        found = [
            areas.address(i, int(at)) // PAGE for i, at in zip(holders, placed.at(np.arange(placed.pages)), strict=True)
        ]
        assert sorted(found) == sorted(pages.tolist())
