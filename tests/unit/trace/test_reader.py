"""Reading sound, cut off, corrupt and hostile recordings."""

import json
import os
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import support.recorded as rec
from pagewatch.trace import EpochRow, Trace, TraceWriter, reader
from pagewatch.trace.format import END_OF_STREAM
from pagewatch.trace.rows import MappingRow, ProcessRow
from pagewatch.vocab.errors import TraceError

FILES = ("recording.jsonl", "processes.arrows", "mappings.arrows", "epochs.arrows", "notes.arrows")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    rec.write_sample(tmp_path / "r")
    return tmp_path / "r"


def test_what_was_written_is_read(recording: Path) -> None:
    trace = Trace.open(recording)
    assert trace.header == rec.HEADER
    assert trace.complete
    assert trace.ended_reason == "interrupted"
    assert trace.ended_ns == 500_000_000
    assert tuple(trace.epochs()) == rec.SAMPLE.epochs
    assert trace.epoch_count == len(rec.SAMPLE.epochs)
    assert trace.notes == rec.SAMPLE.notes
    assert trace.processes == (
        ProcessRow(500, 1, "redis-server", 0, 500_000_000, None, ""),
        ProcessRow(501, 500, "child", 200_000_000, 350_000_000, -9, "was ended by SIGKILL"),
    )
    assert trace.mappings == (
        MappingRow(500, rec.HEAP, 0, None),
        MappingRow(500, rec.FILE, 0, 300_050_000),
    )


def test_epochs_can_be_read_again_and_side_by_side(recording: Path) -> None:
    trace = Trace.open(recording)
    pairs = list(zip(trace.epochs(), trace.epochs(), strict=True))
    assert [first for first, _ in pairs] == [second for _, second in pairs] == list(rec.SAMPLE.epochs)


@given(rows=rec.random_epochs(), flushes=st.sets(st.integers(0, 12)), ended=st.booleans())
def test_random_epochs_survive_the_round_trip(
    rows: list[EpochRow], flushes: set[int], *, ended: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("trip")
    with TraceWriter(path, rec.HEADER) as writer:
        for pid in {row.pid for row in rows}:
            writer.process_started(0, pid, parent_pid=1, name="p")
        for position, row in enumerate(rows):
            writer.epoch(row)
            if position in flushes:
                writer.flush()
        if ended:
            writer.end(1 << 50, "done")
    trace = Trace.open(path)
    assert list(trace.epochs()) == rows
    assert trace.epoch_count == len(rows)
    assert trace.complete == ended
    shutil.rmtree(path)


@given(snapshots=st.lists(st.lists(rec.mapping_values, max_size=5), min_size=1, max_size=6))
def test_life_times_are_those_of_a_naive_walk(
    snapshots: list[list[rec.Mapping]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lives")
    with TraceWriter(path, rec.HEADER) as writer:
        writer.process_started(0, 7, parent_pid=1, name="p")
        for time_ns, snapshot in enumerate(snapshots):
            writer.mappings(7, snapshot, first_ns=time_ns, last_ns=time_ns)
        writer.end(len(snapshots), "done")
    got = {
        (row.mapping.start, row.mapping.end, row.mapping.name, row.first_ns, row.last_ns)
        for row in Trace.open(path).mappings
    }
    assert got == _naive_lives(snapshots)
    shutil.rmtree(path)


def _naive_lives(snapshots: list[list[rec.Mapping]]) -> set[tuple[object, ...]]:
    seen = [{(m.start, m.end, m.name) for m in snapshot} for snapshot in snapshots]
    lives: set[tuple[object, ...]] = set()
    for key in set().union(*seen):
        first: int | None = None
        for time_ns, keys in enumerate(seen):
            if key in keys and first is None:
                first = time_ns
            elif key not in keys and first is not None:
                lives.add((*key, first, time_ns))
                first = None
        if first is not None:
            lives.add((*key, first, None))
    return lives


def test_a_recording_without_its_end_says_so(tmp_path: Path) -> None:
    sample = rec.write_sample(tmp_path / "r", end=False)
    trace = Trace.open(tmp_path / "r")
    assert not trace.complete
    assert "cut off" in trace.ended_reason
    assert tuple(trace.epochs()) == sample.epochs


def read_all(path: Path) -> tuple[Trace, tuple[EpochRow, ...]] | None:
    """The recording, or None where it is refused with the one error that may come."""
    try:
        trace = Trace.open(path)
        return trace, tuple(trace.epochs())
    except TraceError as error:
        refusal = error
    assert str(path) in str(refusal)
    return None


def assert_is_prefix(trace: Trace, epochs: tuple[EpochRow, ...], whole: Trace) -> None:
    """Everything in the trace is as in the whole one; only the end may be missing."""
    assert epochs == rec.SAMPLE.epochs[: len(epochs)]
    assert trace.header == whole.header
    notes = tuple(note for note in trace.notes if note.text != trace.damage)
    assert notes == whole.notes[: len(notes)]
    assert trace.ended_ns <= whole.ended_ns
    for part, all_of_it in zip(trace.processes, whole.processes, strict=False):
        assert (part.pid, part.first_ns, part.name) == (all_of_it.pid, all_of_it.first_ns, all_of_it.name)
        assert part.exit_status in (None, all_of_it.exit_status)
    for row, full in zip(trace.mappings, whole.mappings, strict=False):
        assert (row.mapping, row.first_ns) == (full.mapping, full.first_ns)
        assert row.last_ns in (None, full.last_ns)


@pytest.mark.parametrize("name", FILES)
def test_cut_at_any_byte_a_prefix_or_a_clear_error_is_left(recording: Path, name: str) -> None:
    whole = Trace.open(recording)
    size = (recording / name).stat().st_size
    counts = []
    for length in range(size - 1, -1, -1):
        os.truncate(recording / name, length)
        if (read := read_all(recording)) is not None:
            assert_is_prefix(*read, whole)
            assert not read[0].complete or (name == "notes.arrows" and read[0].damage)
            counts.append(len(read[1]))
    # Cutting off more never brings anything back, and cutting off a little leaves something.
    assert counts == sorted(counts, reverse=True)
    assert counts[0] >= 4


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_noticed_or_does_no_harm(recording: Path, name: str) -> None:
    whole = Trace.open(recording)
    data = (recording / name).read_bytes()
    seeded = random.Random(name)
    refused = 0
    for position in range(len(data)):
        flipped = data[position] ^ (1 << seeded.randrange(8))
        (recording / name).write_bytes(data[:position] + bytes([flipped]) + data[position + 1 :])
        read = read_all(recording)
        if read is None:
            refused += 1
        else:
            assert_is_prefix(*read, whole)
    assert refused > 0.9 * len(data)


def rewrite_journal(path: Path, change: Callable[[list[dict[str, object]]], None]) -> None:
    """Change the journal's lines and give them right checksums again: what an attacker would do."""
    journal = path / "recording.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        del line["crc32"]
    change(lines)
    out = b""
    for line in lines:
        text = json.dumps(line).encode()[:-1]
        out += text + b', "crc32": %d}\n' % zlib.crc32(text)
    journal.write_bytes(out)


def replace_stream(path: Path, name: str, data: bytes, n_rows: int) -> None:
    """Put other data into a stream, with a journal that vouches for it."""
    (path / f"{name}.arrows").write_bytes(data)

    def change(lines: list[dict[str, object]]) -> None:
        for line in lines[1:]:
            if "streams" in line:
                line["streams"].pop(name, None)
        lines[1]["streams"][name] = [0, len(data), n_rows, zlib.crc32(data)]

    rewrite_journal(path, change)


def test_an_attackers_checksums_are_good_enough_for_these_tests(recording: Path) -> None:
    rewrite_journal(recording, lambda _: None)
    assert tuple(Trace.open(recording).epochs()) == rec.SAMPLE.epochs


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda lines: lines[0].update(version=2), "version 2"),
        (lambda lines: lines[0].update(page_size=1000), "a page of 1000 bytes"),
        (lambda lines: lines[0].update(page_size=0), "not a number from"),
        (lambda lines: lines[0].update(page_size=True), "not a number from"),
        (lambda lines: lines[0].update(hz=float("nan")), "not a positive number"),
        (lambda lines: lines[0].update(hz=10**400), "not a positive number"),
        (lambda lines: lines[0].update(command=[1]), "not text"),
        (lambda lines: lines[0].update(command=7), "header makes no sense"),
        (lambda lines: lines[0].pop("machine"), "header makes no sense"),
        (lambda lines: lines.__setitem__(1, {"streams": {"epochs": [0, 1 << 62, 5, 0]}, "until_ns": 0}), "number"),
        (lambda lines: lines[1]["streams"].update(epochs=[0, 100, 1 << 40, 0]), "number"),
        (lambda lines: lines[1]["streams"].update(epochs=[8, 100, 0, 0]), "number"),
        (lambda lines: lines[1]["streams"].update(epochs=[-8, 100, 0, 0]), "number"),
        (lambda lines: lines[1]["streams"].update(epochs=[0, 100]), "makes no sense"),
        (lambda lines: lines[1]["streams"].update(secrets=[0, 100, 0, 0]), "makes no sense"),
        (lambda lines: lines[1].update(streams=[]), "makes no sense"),
        (lambda lines: lines[2].update(until_ns=-1), "number"),
        (lambda lines: lines[3].update(until_ns=1), "number"),
        (lambda lines: lines.pop(2), "number"),
        (lambda lines: lines.append({"end_ns": 1 << 60, "reason": ""}), "goes on after its end"),
        (lambda lines: lines.__setitem__(2, {}), "makes no sense"),
    ],
)
def test_impossible_claims_of_the_journal_are_refused(
    recording: Path, change: Callable[[list[dict[str, object]]], None], problem: str
) -> None:
    rewrite_journal(recording, change)
    with pytest.raises(TraceError, match=problem) as caught:
        Trace.open(recording)
    assert caught.value.path == str(recording / "recording.jsonl")


def test_a_claim_beyond_the_file_is_a_cut_off_recording_not_an_allocation(recording: Path) -> None:
    def change(lines: list[dict[str, object]]) -> None:
        extent = lines[2]["streams"]["epochs"]
        extent[1] = 1 << 30

    rewrite_journal(recording, change)
    trace = Trace.open(recording)
    assert not trace.complete
    assert trace.epoch_count == 0
    assert "epochs.arrows ends at byte " in trace.ended_reason
    assert "1,073,7" in trace.ended_reason


@pytest.mark.parametrize("name", ["processes.arrows", "mappings.arrows", "epochs.arrows"])
def test_the_stream_that_was_cut_off_is_named(recording: Path, name: str) -> None:
    size = (recording / name).stat().st_size
    last_promised = size - len(END_OF_STREAM)
    os.truncate(recording / name, last_promised - 1)
    trace = Trace.open(recording)
    assert not trace.complete
    assert trace.ended_reason == (
        f"cut off: {name} ends at byte {last_promised - 1:,}, where the journal promises {last_promised:,}"
    )
    assert trace.damage == ""


def test_notes_that_were_cut_off_take_nothing_else_with_them(recording: Path) -> None:
    whole = Trace.open(recording)
    os.truncate(recording / "notes.arrows", 0)
    trace = Trace.open(recording)
    assert trace.complete
    assert tuple(trace.epochs()) == rec.SAMPLE.epochs
    assert (trace.processes, trace.mappings, trace.ended_ns) == (whole.processes, whole.mappings, whole.ended_ns)
    assert "notes.arrows ends at byte 0, where the journal promises" in trace.damage
    assert [note.text for note in trace.notes] == [trace.damage]


def test_more_rows_than_a_reader_keeps_are_refused(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_ROWS", 1)
    with pytest.raises(TraceError, match=r"mappings\.arrows: has more than 1 rows"):
        Trace.open(recording)


def test_a_claim_of_more_rows_than_a_commit_may_have_is_refused(recording: Path) -> None:
    def change(lines: list[dict[str, object]]) -> None:
        lines[2]["streams"]["epochs"][2] = 1_000_001

    rewrite_journal(recording, change)
    with pytest.raises(TraceError, match="not a number from 0 to 1000000"):
        Trace.open(recording)


def test_counts_that_do_not_match_the_data_are_refused(recording: Path) -> None:
    def change(lines: list[dict[str, object]]) -> None:
        lines[2]["streams"]["epochs"][2] += 1

    rewrite_journal(recording, change)
    with pytest.raises(TraceError, match="fewer rows than the journal says"):
        list(Trace.open(recording).epochs())


def test_a_nested_bomb_of_json_is_refused(recording: Path) -> None:
    text = b'{"streams": ' + b"[" * 1_000_000
    line = text + b', "crc32": %d}\n' % zlib.crc32(text)
    journal = recording / "recording.jsonl"
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0] + line)
    with pytest.raises(TraceError, match="not JSON"):
        Trace.open(recording)


def test_an_endless_line_is_refused(recording: Path) -> None:
    journal = recording / "recording.jsonl"
    header = journal.read_bytes().splitlines(keepends=True)[0]
    with journal.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + (1 << 40))
    with pytest.raises(TraceError, match="longer than"):
        Trace.open(recording)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(recording: Path, name: str) -> None:
    (recording / name).unlink()
    with pytest.raises(TraceError, match="no recording.jsonl" if name == "recording.jsonl" else f"{name}: is missing"):
        Trace.open(recording)


@pytest.mark.parametrize("name", FILES)
def test_links_out_of_the_directory_are_not_followed(recording: Path, tmp_path: Path, name: str) -> None:
    (recording / name).rename(tmp_path / "elsewhere")
    (recording / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TraceError, match="is a link"):
        Trace.open(recording)


def test_a_pipe_in_place_of_a_file_does_not_hang(recording: Path) -> None:
    (recording / "epochs.arrows").unlink()
    os.mkfifo(recording / "epochs.arrows")
    with pytest.raises(TraceError, match="not a plain file"):
        Trace.open(recording)


@pytest.mark.parametrize("kind", ["nothing", "file", "empty", "other"])
def test_what_is_no_recording_is_called_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "r"
    if kind == "file":
        path.write_text("text")
    elif kind != "nothing":
        path.mkdir()
    if kind == "other":
        (path / "recording.jsonl").write_text('{"format": "something"}\n')
    words = {
        "nothing": "no such recording",
        "file": "not a directory",
        "empty": "it has no",
        "other": "not a recording",
    }
    with pytest.raises(TraceError, match=words[kind]):
        Trace.open(path)


def test_an_epoch_of_an_unknown_process_is_refused(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, rec.HEADER) as writer:
        writer.epoch(rec.epoch(0, rec.pages(1), pid=99))
    with pytest.raises(TraceError, match="process 99"):
        list(Trace.open(tmp_path).epochs())


def test_a_recording_that_is_still_growing_reads_as_it_was_when_opened(tmp_path: Path) -> None:
    with TraceWriter(tmp_path, rec.HEADER) as writer:
        writer.process_started(0, 500, parent_pid=1, name="p")
        writer.epoch(rec.SAMPLE.epochs[0])
        writer.flush()
        trace = Trace.open(tmp_path)
        writer.epoch(rec.SAMPLE.epochs[1])
        writer.flush()
        assert tuple(trace.epochs()) == rec.SAMPLE.epochs[:1]
        assert tuple(Trace.open(tmp_path).epochs()) == rec.SAMPLE.epochs[:2]
