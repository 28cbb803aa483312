"""Every number of a report against its definition, page by page."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.report.figures import compute
from pagewatch.trace import Trace
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.errors import InvalidArgument
from support import recordings
from support.recordings import PAGE, SECOND_NS, PlainRecording

MAPPED = {100: [(10, 40, "[heap]"), (40, 60, ""), (5000, 5100, "/lib/a")], 200: [(10, 30, "[heap]")]}

pages_of = {
    100: st.sampled_from([*range(10, 60), *range(5000, 5100), 7000, 7001]),
    200: st.integers(10, 29),
}


@st.composite
def any_recording(draw: st.DrawFn) -> PlainRecording:
    """Some rounds of one or two processes; some pages lie in no mapping."""
    epochs = []
    indices: Counter[int] = Counter()
    for round_index in range(draw(st.integers(0, 8))):
        for k, pid in enumerate(draw(st.sampled_from([(100,), (100, 200), (200,)]))):
            pages = draw(st.lists(pages_of[pid], max_size=30, unique=True))
            assumed = pages[: draw(st.integers(0, len(pages)))]
            at_ns = (round_index + 1) * SECOND_NS + k * 1000
            epochs.append(recordings.epoch(indices[pid], pages, pid=pid, ended_ns=at_ns, assumed=assumed))
            indices[pid] += 1
    return PlainRecording(
        header=recordings.header(),
        processes=[recordings.process(100, "main"), recordings.process(200, "child")],
        mappings=[
            recordings.mapping(start, end, name, pid=pid) for pid, rows in MAPPED.items() for start, end, name in rows
        ],
        all_epochs=epochs,
    )


def naive_label(pid: int, page: int) -> str:
    for start, end, name in MAPPED[pid]:
        if start <= page < end:
            return name or "[anonymous]"
    return "[not mapped]"


def naive_writes(recording: PlainRecording) -> Counter[tuple[int, int]]:
    """In how many epochs each page of each process was written."""
    return Counter(
        (row.pid, int(address) // PAGE) for row in recording.all_epochs for address in row.regions.page_addresses()
    )


@settings(max_examples=150, deadline=None)
@given(recording=any_recording(), rows=st.integers(1, 40), columns=st.integers(1, 12))
def test_totals_mappings_and_processes_count_pages(recording: PlainRecording, rows: int, columns: int) -> None:
    figures = compute(recording, rows=rows, columns=columns)
    writes = naive_writes(recording)
    assert figures.totals.page_writes == writes.total()
    assert figures.totals.unique_pages == len(writes)
    assert figures.totals.epochs == len(recording.all_epochs)
    assert figures.totals.assumed_page_writes == sum(row.assumed.pages for row in recording.all_epochs)
    by_mapping: Counter[tuple[int, str]] = Counter()
    unique: Counter[tuple[int, str]] = Counter()
    for (pid, page), times in writes.items():
        by_mapping[pid, naive_label(pid, page)] += times
        unique[pid, naive_label(pid, page)] += 1
    assert {(m.pid, m.label): m.page_writes for m in figures.mappings if m.page_writes} == by_mapping
    assert {(m.pid, m.label): m.unique_pages for m in figures.mappings if m.page_writes} == unique
    assert [m.page_writes for m in figures.mappings] == sorted((m.page_writes for m in figures.mappings), reverse=True)
    for process in figures.processes:
        own = [times for (pid, _), times in writes.items() if pid == process.pid]
        assert (process.page_writes, process.unique_pages) == (sum(own), len(own))
        assert process.epochs == sum(row.pid == process.pid for row in recording.all_epochs)


@settings(max_examples=150, deadline=None)
@given(recording=any_recording())
def test_first_and_last_writes_are_ends_of_epochs(recording: PlainRecording) -> None:
    times: dict[tuple[int, str], list[int]] = {}
    for row in recording.all_epochs:
        for address in row.regions.page_addresses():
            times.setdefault((row.pid, naive_label(row.pid, int(address) // PAGE)), []).append(row.ended_ns)
    for figure in compute(recording, rows=5, columns=5).mappings:
        expected = times.get((figure.pid, figure.label))
        assert figure.first_write_ns == (min(expected) if expected else None)
        assert figure.last_write_ns == (max(expected) if expected else None)


@settings(max_examples=200, deadline=None)
@given(recording=any_recording(), rows=st.integers(1, 60), columns=st.integers(1, 12))
def test_each_cell_counts_the_pages_of_its_addresses_and_times(
    recording: PlainRecording, rows: int, columns: int
) -> None:
    figures = compute(recording, rows=rows, columns=columns)
    heatmap, edges = figures.heatmap, figures.timeline.edges_ns
    assert len(heatmap.row_start) <= rows
    assert len(figures.timeline) <= columns
    assert heatmap.page_writes.sum() == figures.totals.page_writes
    if (heatmap.row_blocks > 1).any():
        return  # rows that several mappings share have no single address range to count in
    expected = np.zeros_like(heatmap.page_writes)
    for row in recording.all_epochs:
        column = int(np.searchsorted(edges, row.ended_ns, side="left")) - 1
        for address in row.regions.page_addresses():
            holders = [
                i
                for i in range(len(heatmap.row_start))
                if figures.mappings[heatmap.row_mapping[i]].pid == row.pid
                and heatmap.row_start[i] <= address < heatmap.row_end[i]
            ]
            assert len(holders) == 1
            expected[holders[0], column] += 1
    assert np.array_equal(heatmap.page_writes, expected)
    sizes = (heatmap.row_end - heatmap.row_start) // np.uint64(PAGE)
    assert np.array_equal(heatmap.row_pages, sizes)
    assert ((heatmap.density >= 0) & (heatmap.density <= 1)).all()


@settings(max_examples=150, deadline=None)
@given(recording=any_recording(), columns=st.integers(1, 12))
def test_columns_count_distinct_pages(recording: PlainRecording, columns: int) -> None:
    timeline = compute(recording, rows=3, columns=columns).timeline
    seen: set[tuple[int, int]] = set()
    for column in range(len(timeline)):
        low, high = timeline.edges_ns[column : column + 2]
        window = [
            (row.pid, int(address))
            for row in recording.all_epochs
            if low < row.ended_ns <= high
            for address in row.regions.page_addresses()
        ]
        seen |= set(window)
        assert timeline.page_writes[column] == len(window)
        assert timeline.unique_pages[column] == len(set(window))
        assert timeline.pages_so_far[column] == len(seen)


@settings(max_examples=150, deadline=None)
@given(recording=any_recording())
def test_hottest_pages_and_rewrites_count_epochs(recording: PlainRecording) -> None:
    figures = compute(recording, rows=5, columns=5)
    writes = naive_writes(recording)
    for bin_ in figures.rewrites:
        within = [times for times in writes.values() if bin_.at_least <= times <= bin_.at_most]
        assert bin_.pages == len(within)
    assert sum(bin_.pages for bin_ in figures.rewrites) == len(writes)
    hottest = Counter(
        {
            (figures.mappings[hot.mapping].pid, page): hot.epochs
            for hot in figures.hottest
            for page in range(hot.start // PAGE, hot.end // PAGE)
        }
    )
    assert hottest.items() <= writes.items()
    if len(figures.hottest) < 20:
        assert hottest == writes
    elif writes.keys() - hottest.keys():
        left_out = max(writes[key] for key in writes.keys() - hottest.keys())
        assert left_out <= figures.hottest[-1].epochs


@settings(max_examples=100, deadline=None)
@given(recording=any_recording(), pid=st.sampled_from([100, 200]))
def test_one_process_reads_as_a_recording_of_it_alone(recording: PlainRecording, pid: int) -> None:
    alone = PlainRecording(
        header=recording.header,
        processes=[row for row in recording.processes if row.pid == pid],
        mappings=[row for row in recording.mappings if row.pid == pid],
        all_epochs=[row for row in recording.all_epochs if row.pid == pid],
    )
    chosen, expected = compute(recording, rows=9, columns=9, pid=pid), compute(alone, rows=9, columns=9)
    assert chosen.totals == expected.totals
    assert chosen.mappings == expected.mappings
    assert np.array_equal(chosen.heatmap.page_writes, expected.heatmap.page_writes)


def test_an_empty_recording_has_figures() -> None:
    figures = compute(PlainRecording(recordings.header()), rows=10, columns=10)
    assert figures.totals.rewrite_factor == figures.totals.page_writes_per_s == 0
    assert figures.heatmap.page_writes.shape == (0, 0)
    assert figures.heatmap.bands() == []


def test_a_growing_heap_is_one_mapping() -> None:
    rows = [recordings.mapping(10, 20 + i, "[heap]", first_ns=i, last_ns=i + 1 if i < 9 else None) for i in range(10)]
    recording = PlainRecording(recordings.header(), [recordings.process()], rows, [recordings.epoch(0, [10, 28])])
    (heap,) = compute(recording, rows=5, columns=5).mappings
    assert (heap.start // PAGE, heap.end // PAGE, heap.writable_pages) == (10, 29, 19)
    assert (heap.unique_pages, heap.first_ns, heap.last_ns) == (2, 0, None)


def test_a_reused_address_belongs_to_the_mapping_of_its_time() -> None:
    half = SECOND_NS // 2
    recording = PlainRecording(
        recordings.header(),
        [recordings.process(last_ns=SECOND_NS)],
        [
            recordings.mapping(10, 20, "/a", last_ns=half),
            recordings.mapping(10, 20, "/b", first_ns=half),
        ],
        [recordings.epoch(0, [10, 11]), recordings.epoch(7, [11, 12, 13])],
    )
    figures = compute(recording, rows=20, columns=5)
    assert {m.label: m.unique_pages for m in figures.mappings} == {"/a": 2, "/b": 3}
    assert figures.totals.unique_pages == 5


def test_pages_written_before_a_protection_change_count_as_writable() -> None:
    recording = PlainRecording(
        recordings.header(),
        [recordings.process()],
        [recordings.mapping(10, 13, "/lib/c", permissions="r--p"), recordings.mapping(13, 14, "/lib/c")],
        [recordings.epoch(0, [10, 11, 13])],
    )
    (library,) = compute(recording, rows=5, columns=5).mappings
    assert (library.unique_pages, library.writable_pages, library.share_written) == (3, 3, 1.0)


def test_memory_nobody_can_write_is_left_out() -> None:
    recording = PlainRecording(
        recordings.header(),
        [recordings.process()],
        [recordings.mapping(10, 20, "/lib/text", permissions="r-xp"), recordings.mapping(30, 40)],
    )
    assert [m.label for m in compute(recording, rows=5, columns=5).mappings] == ["[anonymous]"]


def test_blind_spots_are_summed_by_reason() -> None:
    spots = tuple(
        BlindSpot(page * PAGE, (page + 2) * PAGE, BlindReason.FILE_CONTENT, f"/file{page}") for page in (10, 11, 50)
    )
    recording = PlainRecording(
        recordings.header(),
        [recordings.process()],
        [],
        [
            recordings.epoch(0, [], blind_spots=spots[:1]),
            recordings.epoch(1, [], blind_spots=spots),
            recordings.epoch(2, [], blind_spots=spots),
            recordings.epoch(3, []),
        ],
    )
    (blind,) = compute(recording, rows=5, columns=5).blind_spots
    assert (blind.pages, blind.epochs, blind.details) == (5, 3, ("/file10", "/file11", "/file50"))


def test_an_unknown_process_is_named_with_those_there_are() -> None:
    recording = PlainRecording(recordings.header(), [recordings.process(100)])
    with pytest.raises(InvalidArgument, match=r"no process 5; it has: 100"):
        compute(recording, rows=5, columns=5, pid=5)


def test_the_same_figures_from_files(tmp_path: Path) -> None:
    recording = recordings.Lively(n_epochs=30).recording()
    stored = compute(Trace.open(recordings.write(recording, tmp_path / "r")), rows=40, columns=20)
    plain = compute(recording, rows=40, columns=20)
    assert stored.totals == plain.totals
    assert stored.mappings == plain.mappings
    assert stored.blind_spots == plain.blind_spots
    assert np.array_equal(stored.heatmap.page_writes, plain.heatmap.page_writes)
