"""When the recorder collects, what it writes, and how it ends: with fake processes and a fake clock."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import support.recorded as rec
from pagewatch.record import Ending, Policy, Progress, Recorder
from pagewatch.trace import Trace, TraceWriter
from pagewatch.trackers.base import Epoch
from pagewatch.vocab.blindspots import BlindReason
from pagewatch.vocab.errors import CannotAttach, InvalidArgument, PagewatchError, TargetGone, TraceError
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions

MS = 1_000_000
START_NS = 5_000_000_000_123
TEXT = Mapping(0x1000, 0x2000, "r-xp", name="/bin/x")


class FakeSession:
    """A process whose collects take ``cost_ns`` of the fake time and report one page each."""

    def __init__(self, world: "FakeProcesses", pid: int) -> None:
        self.world = world
        self.pid = pid
        self.parent_pid = 1
        self.name = f"program{pid}"
        self.generation = world.generation.get(pid, 0)
        self.maps: Sequence[Mapping] = (rec.HEAP, TEXT)
        self.closed = False
        self.n_collected = 0
        world.sessions.append(self)

    def collect(self) -> Epoch:
        assert not self.closed
        self.check()
        started_ns = self.world.now
        self.world.now += self.world.cost_ns
        self.n_collected += 1
        regions = rec.pages(16 + self.n_collected % 8)
        return Epoch(regions, self.n_collected - 1, started_ns, self.world.now, Regions(), ())

    def mappings(self) -> Sequence[Mapping]:
        self.check()
        return self.maps

    def check(self) -> None:
        if self.pid in self.world.ended or self.generation != self.world.generation.get(self.pid, 0):
            raise TargetGone(self.pid)

    def close(self) -> None:
        self.closed = True


class FakeProcesses:
    """A machine with a clock that moves only when somebody waits or collects."""

    def __init__(self) -> None:
        self.now = START_NS
        self.cost_ns = 0
        self.ended: dict[int, Ending] = {}
        self.generation: dict[int, int] = {}
        self.family: dict[int, list[int]] = {}
        self.refused: dict[int, PagewatchError | OSError] = {}
        self.execs_while_attaching: dict[int, int] = {}
        self.sessions: list[FakeSession] = []
        self.events: list[tuple[int, Callable[[], None]]] = []

    def at(self, after_ms: float, action: Callable[[], None]) -> None:
        """Let something happen that long after the start; waiting recorders are woken by it."""
        self.events.append((START_NS + round(after_ms * MS), action))
        self.events.sort(key=lambda event: event[0])

    def now_ns(self) -> int:
        return self.now

    def wait(self, until_ns: int) -> None:
        if self.events and self.events[0][0] <= until_ns:
            at_ns, action = self.events.pop(0)
            self.now = max(self.now, at_ns)
            action()
        else:
            self.now = max(self.now, until_ns)

    def open(self, pid: int) -> FakeSession:
        if pid in self.refused:
            raise self.refused[pid]
        if pid in self.ended or self.execs_while_attaching.get(pid, 0):
            self.execs_while_attaching[pid] = self.execs_while_attaching.get(pid, 0) - 1
            raise TargetGone(pid)
        return FakeSession(self, pid)

    def children(self, pid: int) -> Sequence[int]:
        return self.family.get(pid, [])

    def ending(self, pid: int) -> Ending | None:
        return self.ended.get(pid)

    def fate(self, pid: int) -> Ending | None:
        return self.ended.get(pid)

    def end(self, pid: int, status: int | None = 0) -> None:
        self.ended[pid] = Ending(status)

    def exec(self, pid: int) -> None:
        self.generation[pid] = self.generation.get(pid, 0) + 1


@pytest.fixture
def world() -> FakeProcesses:
    return FakeProcesses()


def record(
    world: FakeProcesses, path: Path, policy: Policy, *, on_progress: Callable[[Progress], None] = lambda _: None
) -> tuple[Progress, Trace]:
    path.mkdir(exist_ok=True)
    with TraceWriter(path, rec.HEADER, now_ns=world.now_ns) as writer:
        recorder = Recorder(writer, world, policy, clock=world, wait=world.wait, on_progress=on_progress)
        recorder.add(world.open(500))
        result = recorder.run()
    assert all(session.closed for session in world.sessions)
    return result, Trace.open(path)


def starts_ms(trace: Trace, pid: int = 500) -> list[float]:
    return [epoch.started_ns / MS for epoch in trace.epochs() if epoch.pid == pid]


def test_collects_at_its_rate_until_the_duration_is_over(world: FakeProcesses, tmp_path: Path) -> None:
    result, trace = record(world, tmp_path, Policy(hz=10, duration_s=0.55))
    assert starts_ms(trace) == [100, 200, 300, 400, 500, 550]
    assert trace.complete
    assert trace.ended_reason == "its duration of 0.55 s was over"
    assert result.n_epochs == trace.epoch_count == 6
    assert result.n_page_writes == 6
    assert result.n_processes == 1
    assert [epoch.index for epoch in trace.epochs()] == [0, 1, 2, 3, 4, 5]


def test_slow_collects_do_not_make_the_rate_drift(world: FakeProcesses, tmp_path: Path) -> None:
    world.cost_ns = 30 * MS
    result, trace = record(world, tmp_path, Policy(hz=10, duration_s=1.0))
    assert starts_ms(trace) == [100 * tick for tick in range(1, 11)]
    assert result.n_late == 0


def test_collects_that_take_too_long_are_counted_and_keep_the_grid(world: FakeProcesses, tmp_path: Path) -> None:
    world.cost_ns = 250 * MS
    result, trace = record(world, tmp_path, Policy(hz=10, duration_s=1.0))
    assert starts_ms(trace) == [100, 400, 700, 1000]
    assert result.n_late == 6
    assert "6 collects left out" in trace.notes[-1].text


@given(hz=st.floats(0.5, 200), costs=st.lists(st.integers(0, 300), min_size=1, max_size=20), seconds=st.floats(0.1, 3))
def test_every_collect_is_on_the_grid_and_late_ones_add_up(
    hz: float, costs: list[int], seconds: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    world = FakeProcesses()
    left = iter(costs)

    def on_progress(_: Progress) -> None:
        world.cost_ns = next(left, 0) * MS

    result, trace = record(
        world, tmp_path_factory.mktemp("r"), Policy(hz=hz, duration_s=seconds), on_progress=on_progress
    )
    period_ns = round(1e9 / hz)
    *on_grid, last = [epoch.started_ns for epoch in trace.epochs()]
    assert all(start % period_ns == 0 for start in on_grid)
    assert last % period_ns == 0 or last == round(seconds * 1e9)
    ticks = {start // period_ns for start in on_grid}
    assert len(ticks) == len(on_grid)
    assert result.n_late == len(set(range(1, -(-last // period_ns))) - ticks)


def test_stopping_collects_once_more_and_ends_properly(world: FakeProcesses, tmp_path: Path) -> None:
    with TraceWriter(tmp_path, rec.HEADER, now_ns=world.now_ns) as writer:
        recorder = Recorder(writer, world, Policy(), clock=world, wait=world.wait)
        recorder.add(world.open(500))
        world.at(250, lambda: recorder.stop("interrupted"))
        result = recorder.run()
    trace = Trace.open(tmp_path)
    assert starts_ms(trace) == [100, 200, 250]
    assert trace.complete
    assert trace.ended_reason == result.ended_reason == "interrupted"
    assert trace.processes[0].ended_reason == ""


def test_the_end_of_the_process_ends_the_recording_with_its_status(world: FakeProcesses, tmp_path: Path) -> None:
    world.at(250, lambda: world.end(500, 3))
    result, trace = record(world, tmp_path, Policy())
    assert result.ended_reason == "process 500 (program500) exited with status 3"
    assert trace.complete
    assert trace.processes[0].exit_status == 3
    assert trace.processes[0].last_ns == 250 * MS
    assert all(row.last_ns == 250 * MS for row in trace.mappings)


def test_what_a_dying_process_wrote_last_is_a_blind_spot(world: FakeProcesses, tmp_path: Path) -> None:
    world.at(250, lambda: world.end(500, -9))
    _, trace = record(world, tmp_path, Policy())
    *_, last = trace.epochs()
    assert last.started_ns == 250 * MS
    assert last.regions.pages == 0
    assert [(spot.start, spot.end, spot.reason) for spot in last.blind_spots] == [
        (rec.HEAP.start, rec.HEAP.end, BlindReason.NOT_FOLLOWED)
    ]
    assert "was ended by SIGKILL" in last.blind_spots[0].detail


def test_a_long_pause_between_collects_does_not_delay_the_end(world: FakeProcesses, tmp_path: Path) -> None:
    world.at(1234, lambda: world.end(500))
    result, _ = record(world, tmp_path, Policy(hz=0.01))
    assert result.elapsed_ns == 1234 * MS


def test_an_exec_is_noted_and_the_new_program_recorded(world: FakeProcesses, tmp_path: Path) -> None:
    world.at(250, lambda: world.exec(500))
    world.at(650, lambda: world.end(500, 0))
    _, trace = record(world, tmp_path, Policy())
    assert [(row.pid, row.ended_reason) for row in trace.processes] == [
        (500, "replaced its program by exec"),
        (500, "exited with status 0"),
    ]
    assert "replaced its program by exec" in trace.notes[0].text
    assert starts_ms(trace) == [100, 200, 300, 400, 500, 600, 650]
    first_of_new = list(trace.epochs())[3]
    assert first_of_new.index == 0
    assert [spot.reason for spot in first_of_new.blind_spots] == [BlindReason.NOT_FOLLOWED]
    assert [len(epoch.blind_spots) for epoch in trace.epochs()] == [0, 0, 1, 1, 0, 0, 1]


def test_a_program_behind_several_wrappers_is_recorded(world: FakeProcesses, tmp_path: Path) -> None:
    """A wrapper that replaces itself by another, and that by the program, does so while it is being attached."""
    world.execs_while_attaching[500] = 0
    world.at(250, lambda: (world.exec(500), world.execs_while_attaching.update({500: 3})))
    world.at(650, lambda: world.end(500, 0))
    result, trace = record(world, tmp_path, Policy())
    assert starts_ms(trace) == [100, 200, 300, 400, 500, 600, 650]
    assert result.ended_reason == "process 500 (program500) exited with status 0"
    assert len(trace.notes) == 1


def test_a_process_that_never_stops_replacing_its_program_is_given_up(world: FakeProcesses, tmp_path: Path) -> None:
    world.execs_while_attaching[501] = 1_000_000
    world.family[500] = [501]
    _, trace = record(world, tmp_path, Policy(duration_s=0.5, follow=True))
    (note,) = trace.notes
    assert "process 501 is not recorded: it replaced its program 20 times" in note.text


def test_children_are_followed_until_the_last_one_ends(world: FakeProcesses, tmp_path: Path) -> None:
    world.at(150, lambda: world.family.update({500: [501]}))
    world.at(350, lambda: world.family.update({501: [502]}))
    world.at(450, lambda: world.end(500, 0))
    world.at(550, lambda: world.end(501, 1))
    world.at(750, lambda: world.end(502, 2))
    result, trace = record(world, tmp_path, Policy(follow=True))
    assert [(row.pid, row.first_ns // MS, row.exit_status) for row in trace.processes] == [
        (500, 0, 0),
        (501, 200, 1),
        (502, 400, 2),
    ]
    assert starts_ms(trace, 501) == [300, 400, 500, 550]
    assert result.ended_reason == "process 502 (program502) exited with status 2"
    first = next(epoch for epoch in trace.epochs() if epoch.pid == 501)
    assert "fork" in first.blind_spots[0].detail


def test_a_recorded_child_that_ended_is_not_noted_as_missed(world: FakeProcesses, tmp_path: Path) -> None:
    """Its parent has not asked for its status yet: it is still among the children."""
    world.family[500] = [501]
    world.at(350, lambda: world.end(501))
    _, trace = record(world, tmp_path, Policy(hz=10, duration_s=1.0, follow=True))
    assert [note.text for note in trace.notes] == []
    assert {row.pid for row in trace.processes} == {500, 501}


def test_children_that_cannot_be_followed_are_noted_once(world: FakeProcesses, tmp_path: Path) -> None:
    world.family[500] = [501, 502]
    world.ended[501] = Ending(0)
    world.refused[502] = CannotAttach(502, "it is 32-bit")
    _, trace = record(world, tmp_path, Policy(follow=True, duration_s=1.0))
    assert [note.text for note in trace.notes] == [
        "process 501 ended before it could be attached",
        "process 502 is not recorded: cannot attach to process 502: it is 32-bit",
    ]


def test_a_child_that_there_is_no_room_for_does_not_end_the_recording(world: FakeProcesses, tmp_path: Path) -> None:
    world.family[500] = [501]
    world.refused[501] = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    _, trace = record(world, tmp_path, Policy(follow=True, duration_s=1.0))
    assert [note.text for note in trace.notes] == ["process 501 is not recorded: Resource temporarily unavailable"]
    assert len(starts_ms(trace)) == 10


def test_children_that_are_not_to_be_followed_are_noted_once(world: FakeProcesses, tmp_path: Path) -> None:
    world.at(1500, lambda: world.family.update({500: [501]}))
    _, trace = record(world, tmp_path, Policy(duration_s=5.0))
    assert [note.text for note in trace.notes] == ["process 500 has a child, 501, which --follow would record, too"]
    assert [row.pid for row in trace.processes] == [500]


def test_a_number_used_again_is_followed_again(world: FakeProcesses, tmp_path: Path) -> None:
    def again() -> None:
        del world.ended[501]

    world.family[500] = [501]
    world.at(250, lambda: (world.end(501), world.family.clear()))
    world.at(450, lambda: (again(), world.family.update({500: [501]})))
    _, trace = record(world, tmp_path, Policy(follow=True, duration_s=0.8))
    assert [(row.pid, row.first_ns // MS) for row in trace.processes] == [(500, 0), (501, 100), (501, 500)]


def test_mappings_are_there_for_the_epoch_they_appear_in(world: FakeProcesses, tmp_path: Path) -> None:
    def change() -> None:
        world.sessions[0].maps = (rec.HEAP, rec.FILE)

    world.cost_ns = MS
    world.at(250, change)
    _, trace = record(world, tmp_path, Policy(duration_s=0.5))
    lives = {row.mapping.label: (row.first_ns / MS, row.last_ns and row.last_ns / MS) for row in trace.mappings}
    assert lives == {"[heap]": (0, None), "/bin/x": (0, 301), rec.FILE.label: (300, None)}


def test_a_full_disk_ends_tracking_with_a_clear_error(
    world: FakeProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise TraceError(tmp_path, "cannot be written (No space left on device)")

    world.at(2500, lambda: monkeypatch.setattr(TraceWriter, "flush", fail))
    with pytest.raises(TraceError, match="No space left"):
        record(world, tmp_path, Policy())
    assert all(session.closed for session in world.sessions)
    assert len(list(Trace.open(tmp_path).epochs())) >= 15


def test_a_failing_tracker_ends_the_recording_properly(
    world: FakeProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise CannotAttach(500, "lost it")

    world.at(350, lambda: monkeypatch.setattr(FakeSession, "collect", fail))
    with pytest.raises(CannotAttach):
        record(world, tmp_path, Policy())
    assert all(session.closed for session in world.sessions)
    trace = Trace.open(tmp_path)
    assert trace.complete
    assert "lost it" in trace.ended_reason
    assert trace.epoch_count == 3


@pytest.mark.parametrize("bad", [{"hz": 0}, {"hz": -1}, {"hz": 1e6}, {"hz": float("nan")}, {"duration_s": 0}])
def test_impossible_policies_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument):
        Policy(**bad)
