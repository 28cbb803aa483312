"""Rows to columns and back."""

import dataclasses

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import support.recorded as rec
from pagewatch.trace import EpochRow, Note
from pagewatch.trace.columns import (
    MappingEvent,
    ProcessEvent,
    StoredEpoch,
    epochs_from_batch,
    epochs_to_batch,
    mappings_from_batch,
    mappings_to_batch,
    notes_from_batch,
    notes_to_batch,
    processes_from_batch,
    processes_to_batch,
)
from pagewatch.vocab.regions import Regions


@given(rows=rec.random_epochs(), same=st.booleans())
def test_epochs_come_back(rows: list[EpochRow], *, same: bool) -> None:
    got = list(epochs_from_batch(epochs_to_batch([StoredEpoch(row, same_blind_spots=same) for row in rows]), rec.PAGE))
    assert [stored.same_blind_spots for stored in got] == [same] * len(rows)
    for stored, row in zip(got, rows, strict=True):
        assert stored.row.regions == row.regions
        assert stored.row.assumed == row.assumed
        assert stored.row.blind_spots == (() if same else row.blind_spots)


@given(mappings=st.lists(rec.mapping_values, min_size=1, max_size=5))
def test_mappings_come_back(mappings: list[rec.Mapping]) -> None:
    events = [MappingEvent(7, number, 5, mapping) for number, mapping in enumerate(mappings)]
    events.append(MappingEvent(8, 0, None, None))
    assert list(mappings_from_batch(mappings_to_batch(events))) == events


def test_processes_and_notes_come_back() -> None:
    events = [ProcessEvent(1, 5, "started", 1, None, "sh"), ProcessEvent(2, 5, "ended", None, -15, "was ended")]
    assert list(processes_from_batch(processes_to_batch(events))) == events
    notes = [Note(0, ""), Note(5, "\x00\u202e")]
    assert list(notes_from_batch(notes_to_batch(notes))) == notes


def test_bytes_that_are_no_text_become_escapes() -> None:
    name = b"/data/\xff".decode("utf-8", "surrogateescape")
    (event,) = processes_from_batch(processes_to_batch([ProcessEvent(1, 5, "started", 1, None, name)]))
    assert event.text == "/data/\\udcff"


def test_the_top_of_what_user_space_can_have_comes_back() -> None:
    top = 1 << 57
    row = rec.epoch(0, Regions([(top - rec.PAGE, top)], page_size=rec.PAGE))
    (stored,) = epochs_from_batch(epochs_to_batch([StoredEpoch(row, same_blind_spots=False)]), rec.PAGE)
    assert stored.row == row


def test_a_mapping_of_the_kernel_at_the_top_of_all_addresses_comes_back() -> None:
    vsyscall = rec.Mapping(0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000, "--xp", name="[vsyscall]")
    events = [MappingEvent(0, 0, 5, vsyscall)]
    assert list(mappings_from_batch(mappings_to_batch(events))) == events


@pytest.mark.parametrize("column", ["regions", "assumed"])
def test_written_memory_beyond_user_space_is_refused(column: str) -> None:
    beyond = Regions([(0, (1 << 57) + rec.PAGE)], page_size=rec.PAGE)
    row = dataclasses.replace(rec.epoch(0, Regions(page_size=rec.PAGE)), **{column: beyond})
    batch = epochs_to_batch([StoredEpoch(row, same_blind_spots=False)])
    with pytest.raises(ValueError, match="beyond 0x200000000000000"):
        list(epochs_from_batch(batch, rec.PAGE))


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([(0x2000, 0x1000)], "ends before it starts"),
        ([(0x1000, 0x1000)], "ends before it starts"),
        ([(0x1001, 0x2000)], "whole pages"),
        ([(0x1000, 0x3000), (0x2000, 0x4000)], "overlap"),
        ([(0x5000, 0x6000), (0x1000, 0x2000)], "out of order"),
    ],
)
def test_impossible_regions_are_refused(rows: list[tuple[int, int]], problem: str) -> None:
    array = Regions([(0x1000 * (2 * i), 0x1000 * (2 * i + 1)) for i in range(1, len(rows) + 1)]).array.copy()
    for index, (start, end) in enumerate(rows):
        array["start"][index], array["end"][index] = start, end
    row = rec.epoch(0, Regions.from_kernel(array, page_size=rec.PAGE))
    batch = epochs_to_batch([StoredEpoch(row, same_blind_spots=False)])
    with pytest.raises(ValueError, match=problem):
        list(epochs_from_batch(batch, rec.PAGE))


def test_touching_regions_of_a_foreign_writer_are_merged() -> None:
    array = Regions([(0x1000, 0x2000), (0x3000, 0x4000)]).array.copy()
    array["start"][1], array["end"][1] = 0x2000, 0x3000
    row = rec.epoch(0, Regions.from_kernel(array, page_size=rec.PAGE))
    (stored,) = epochs_from_batch(epochs_to_batch([StoredEpoch(row, same_blind_spots=False)]), rec.PAGE)
    assert stored.row.regions == Regions([(0x1000, 0x3000)], page_size=rec.PAGE)


@pytest.mark.parametrize(
    ("column", "value"),
    [("pid", 0), ("pid", -5), ("started_ns", -1), ("started_ns", 1 << 60), ("ended_ns", 0)],
)
def test_impossible_epochs_are_refused(column: str, value: int) -> None:
    batch = epochs_to_batch([StoredEpoch(rec.SAMPLE.epochs[0], same_blind_spots=False)])
    position = batch.schema.get_field_index(column)
    field = batch.schema.field(position)
    changed = batch.set_column(position, field, pa.array([value], field.type))
    with pytest.raises(ValueError, match="impossible"):
        list(epochs_from_batch(changed, rec.PAGE))


def test_an_unknown_reason_of_a_blind_spot_is_refused() -> None:
    batch = epochs_to_batch([StoredEpoch(rec.SAMPLE.epochs[1], same_blind_spots=False)])
    field = batch.schema.field("blind_spots")
    spots = [[{"start": 0, "end": 1, "reason": "MAGIC", "detail": ""}]]
    changed = batch.set_column(6, field, pa.array(spots, field.type))
    with pytest.raises(ValueError, match="MAGIC"):
        list(epochs_from_batch(changed, rec.PAGE))
