"""Writing recordings: when it flushes, what it leaves behind, what it refuses."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

import support.recorded as rec
from pagewatch.trace import EpochRow, Trace, TraceWriter
from pagewatch.trace import writer as writer_module
from pagewatch.trace.format import FILES
from pagewatch.vocab.errors import TraceError, TrackerClosed
from pagewatch.vocab.regions import Regions


class Clock:
    """A clock that stands still until it is moved."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def writer(tmp_path: Path, clock: Clock) -> TraceWriter:
    writer = TraceWriter(tmp_path, rec.HEADER, now_ns=clock)
    writer.process_started(0, 500, parent_pid=1, name="p")
    writer.flush()
    return writer


def readable_epochs(writer: TraceWriter) -> int:
    return Trace.open(writer.path).epoch_count


def test_an_epoch_waits_for_less_than_a_second(writer: TraceWriter, clock: Clock) -> None:
    writer.epoch(rec.SAMPLE.epochs[0])
    clock.now_ns += 999_999_999
    writer.epoch(rec.SAMPLE.epochs[1])
    assert readable_epochs(writer) == 0
    clock.now_ns += 1
    writer.epoch(rec.SAMPLE.epochs[2])
    assert readable_epochs(writer) == 3


def test_before_a_long_pause_everything_is_flushed(writer: TraceWriter, clock: Clock) -> None:
    writer.epoch(rec.SAMPLE.epochs[0])
    clock.now_ns += 100_000_000
    writer.flush_before(100_000_000)
    assert readable_epochs(writer) == 0
    writer.flush_before(900_000_000)
    assert readable_epochs(writer) == 1


def test_many_regions_do_not_wait_at_all(writer: TraceWriter) -> None:
    wide = Regions.from_pages([2 * page * rec.PAGE for page in range(100_000)], page_size=rec.PAGE)
    for index in range(5):
        writer.epoch(rec.epoch(index, wide))
    assert readable_epochs(writer) == 4


def test_any_arrow_reader_can_read_the_streams(tmp_path: Path) -> None:
    rec.write_sample(tmp_path / "r")
    table = pa.ipc.open_stream(tmp_path / "r" / FILES["epochs"]).read_all()
    assert table["pid"].to_pylist() == [row.pid for row in rec.SAMPLE.epochs]
    assert table["regions"][0].as_py()[0] == {"start": 16 * rec.PAGE, "end": 19 * rec.PAGE, "categories": 2}


def test_unchanged_mappings_and_blind_spots_cost_no_space(writer: TraceWriter) -> None:
    sizes = []
    for index in range(3):
        writer.mappings(500, [rec.HEAP, rec.FILE], first_ns=index, last_ns=index)
        writer.epoch(rec.epoch(index, rec.pages(), *[rec.PINNED] * 100))
        writer.flush()
        sizes.append(writer.n_bytes)
    assert sizes[2] - sizes[1] < 2_000 < sizes[1] - sizes[0] + 10_000
    assert [len(row.blind_spots) for row in Trace.open(writer.path).epochs()] == [100, 100, 100]


def test_an_ended_process_takes_its_mappings_with_it(writer: TraceWriter) -> None:
    writer.mappings(500, [rec.HEAP], first_ns=1, last_ns=1)
    writer.process_ended(9, 500, exit_status=0, reason="exited with status 0")
    writer.process_started(10, 500, parent_pid=1, name="another with the same number")
    writer.mappings(500, [rec.HEAP], first_ns=11, last_ns=11)
    writer.end(20, "done")
    trace = Trace.open(writer.path)
    assert [(row.first_ns, row.last_ns) for row in trace.mappings] == [(1, 9), (11, None)]
    assert [(row.first_ns, row.last_ns) for row in trace.processes] == [(0, 9), (10, 20)]


def test_nothing_can_be_added_after_the_end(writer: TraceWriter) -> None:
    writer.end(5, "done")
    with pytest.raises(TrackerClosed):
        writer.note(6, "too late")
    writer.close()
    assert Trace.open(writer.path).complete


def test_an_old_recording_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    rec.write_sample(tmp_path / "r")
    (tmp_path / "r" / "report.html").write_text("mine")
    TraceWriter(tmp_path / "r", rec.HEADER).end(1, "done")
    assert Trace.open(tmp_path / "r").epoch_count == 0
    assert (tmp_path / "r" / "report.html").read_text() == "mine"


def test_more_mappings_than_a_reader_takes_are_left_out_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_LOG_ROWS", 22)
    writer = TraceWriter(tmp_path, rec.HEADER)
    writer.process_started(0, 500, parent_pid=1, name="p")
    for step in range(30):
        mapping = rec.Mapping(step * rec.PAGE, (step + 1) * rec.PAGE, "rw-p")
        writer.mappings(500, [mapping], first_ns=step, last_ns=step)
    writer.end(40, "done")
    trace = Trace.open(tmp_path)
    assert len(trace.mappings) == 10
    assert all(row.last_ns is not None for row in trace.mappings)
    assert [note.text.split(":")[0] for note in trace.notes] == ["too many mappings"]


def test_a_recorder_killed_at_any_moment_leaves_what_it_had_committed(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import itertools, sys
        import support.recorded as rec
        from pathlib import Path
        from pagewatch.trace import TraceWriter
        writer = TraceWriter(Path(sys.argv[1]), rec.HEADER)
        writer.process_started(0, 500, parent_pid=1, name="p")
        for index in itertools.count():
            writer.epoch(rec.epoch(index, rec.pages(index, index + 7)))
            writer.flush()
            print(index, flush=True)
        """
    )
    for attempt in range(5):
        path = tmp_path / str(attempt)
        path.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(Path(rec.__file__).parents[1])}
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.01 * attempt)
            process.send_signal(signal.SIGKILL)
            said = [line for line in process.stdout if line.endswith("\n")]
        rows = list(Trace.open(path).epochs())
        assert len(rows) >= 1 + len(said)
        assert rows == [rec.epoch(index, rec.pages(index, index + 7)) for index in range(len(rows))]


class FullDisk:
    """Lets a number of bytes through, the last write only in part, and then none."""

    def __init__(self, n_bytes: int) -> None:
        self.left = n_bytes
        self.write = os.write

    def __call__(self, fd: int, data: bytes) -> int:
        if not self.left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n_bytes = self.write(fd, data[: self.left])
        self.left -= n_bytes
        return n_bytes


def write_and_flush(writer: TraceWriter, rows: Sequence[EpochRow]) -> None:
    for row in rows:
        writer.epoch(row)
        writer.flush()


@pytest.mark.parametrize("n_bytes", range(1, 2000, 97))
def test_a_full_disk_is_an_error_and_what_was_written_stays_readable(
    writer: TraceWriter, monkeypatch: pytest.MonkeyPatch, n_bytes: int
) -> None:
    writer.epoch(rec.SAMPLE.epochs[0])
    writer.flush()
    monkeypatch.setattr(os, "write", FullDisk(n_bytes))
    with pytest.raises(TraceError, match=r"No space left on device.*stays readable"):
        write_and_flush(writer, rec.SAMPLE.epochs[1:3] * 10)
    monkeypatch.undo()
    trace = Trace.open(writer.path)
    assert not trace.complete
    assert next(trace.epochs()) == rec.SAMPLE.epochs[0]
    # With room again, as when another program has freed some, the end can still be written.
    writer.end(10**12, "the disk was full")
    assert Trace.open(writer.path).ended_reason == "the disk was full"
    assert len(list(Trace.open(writer.path).epochs())) == trace.epoch_count
