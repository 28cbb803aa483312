"""When to collect, what to write, and when to end."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from pagewatch.ports import Clock
from pagewatch.record.processes import Processes, Session
from pagewatch.trace import EpochRow, TraceWriter
from pagewatch.trackers.base import Epoch
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.errors import InvalidArgument, PagewatchError, TargetGone
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions
from pagewatch.vocab.wording import plural

MAX_HZ = 1000.0
_ATTEMPTS = 20
"""At attaching to a process that goes on replacing its program, each a fifth of a second or less."""
_LOOK_FOR_CHILDREN_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How to record."""

    hz: float = 10.0
    """Collects a second."""
    duration_s: float | None = None
    """End after that long; None to go on until the processes end."""
    follow: bool = False
    """Whether to record children, too."""

    def __post_init__(self) -> None:
        if not 0 < self.hz <= MAX_HZ:
            raise InvalidArgument(f"{self.hz:g} collects a second cannot be done; give --hz above 0, up to {MAX_HZ:g}")
        if self.duration_s is not None and not 0 < self.duration_s < 1e9:
            raise InvalidArgument(f"a duration of {self.duration_s:g} s makes no sense")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recording is, or how it ended."""

    elapsed_ns: int
    n_epochs: int
    """Of all processes."""
    n_page_writes: int
    """Pages reported as written, summed over epochs: a page that two epochs report counts twice."""
    n_bytes: int
    """Size of the recording."""
    n_processes: int
    """Tracked so far."""
    n_late: int
    """Collects that were left out because the one before took too long."""
    n_notes: int
    """Things worth knowing that the recording tells."""
    ended_reason: str = ""
    """Completes "the recording ended: ..."; empty while it runs."""


@dataclass(slots=True)
class _Tracked:
    """What the recorder knows of one session."""

    session: Session
    mappings: Sequence[Mapping]
    unseen: tuple[BlindSpot, ...]
    """Blind spots of the next epoch: what was written before tracking began."""
    n_epochs: int = 0


class Recorder:
    """Collects at a steady rate from processes and writes what it gets, until they end or it is stopped."""

    def __init__(
        self,
        writer: TraceWriter,
        processes: Processes,
        policy: Policy,
        *,
        clock: Clock,
        wait: Callable[[int], None],
        origin_ns: int | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """Tracks nothing yet; see :meth:`add`.

        :param clock: the one that epochs are timed by.
        :param wait: called with a time of that clock; returns then, or earlier when something happened that
            the recorder should look at: a process ended, or :meth:`stop` was called.
        :param origin_ns: when the recording began, on that clock; default: now.
        :param on_progress: called after every round of collects.
        """
        self._writer = writer
        self._processes = processes
        self._policy = policy
        self._clock = clock
        self._wait = wait
        self._on_progress = on_progress
        self._origin_ns = clock.now_ns() if origin_ns is None else origin_ns
        self._tracked: dict[int, _Tracked] = {}
        self._known_children: set[int] = set()
        self._looked_for_children_ns = 0
        self._n_page_writes = 0
        self._pids: set[int] = set()
        self._n_late = 0
        self._n_notes = 0
        self._stop_reason = ""
        self._last_ending = ""

    def add(self, session: Session, *, unseen_because: str = "") -> None:
        """Record this session from now on; the recorder closes it.

        :param unseen_because: if something may have been written to it that was not tracked: what.
        :raises TargetGone: the process is gone already.
        """
        at_ns = self._now_ns()
        try:
            mappings = session.mappings()
        except BaseException:
            session.close()
            raise
        unseen = _unseen(mappings, unseen_because) if unseen_because else ()
        self._tracked[session.pid] = _Tracked(session, mappings, unseen)
        self._pids.add(session.pid)
        self._writer.process_started(at_ns, session.pid, parent_pid=session.parent_pid, name=session.name)
        self._writer.mappings(session.pid, mappings, first_ns=at_ns, last_ns=at_ns)

    def stop(self, reason: str) -> None:
        """End soon, after one more collect. May be called from a signal handler.

        :param reason: completes "the recording ended: ...".
        """
        self._stop_reason = self._stop_reason or reason

    def run(self) -> Progress:
        """Record until every process has ended, the duration is over, or :meth:`stop` was called.

        :raises TraceError: the recording cannot be written any more; what was written stays readable.
        :raises PagewatchError: tracking failed; the recording was ended properly and says why.
        """
        try:
            self._loop()
            reason = self._stop_reason or self._last_ending
        except BaseException as error:
            with suppress(PagewatchError):
                self._writer.end(self._now_ns(), _why(error))
            raise
        finally:
            for tracked in self._tracked.values():
                tracked.session.close()
        if self._n_late:
            self._note(
                f"{plural(self._n_late, 'collect')} left out: those before, or attaching, took longer than their time"
            )
        final = replace(self._progress(), ended_reason=reason)
        self._writer.end(final.elapsed_ns, reason)
        return replace(final, n_bytes=self._writer.n_bytes)

    def _loop(self) -> None:
        period_ns = round(1e9 / self._policy.hz)
        duration_s = self._policy.duration_s
        end_ns = None if duration_s is None else round(duration_s * 1e9)
        tick = 1
        while self._tracked:
            due_ns = tick * period_ns if end_ns is None else min(tick * period_ns, end_ns)
            if not self._wait_until(due_ns):
                continue
            self._collect_all()
            self._look_for_children()
            self._on_progress(self._progress())
            now_ns = self._now_ns()
            if end_ns is not None and now_ns >= end_ns:
                self.stop(f"its duration of {duration_s:g} s was over")
            if self._stop_reason:
                return
            # Ticks stay multiples of the period: a late one does not move those after it.
            next_tick = max(now_ns // period_ns, tick) + 1
            self._n_late += next_tick - tick - 1
            tick = next_tick

    def _wait_until(self, due_ns: int) -> bool:
        """Wait for a tick; whether it is time to collect (or to stop)."""
        pause_ns = due_ns - self._now_ns()
        self._writer.flush_before(pause_ns)
        if pause_ns > 0 and not self._stop_reason:
            self._wait(self._origin_ns + due_ns)
        if self._stop_reason or self._now_ns() >= due_ns:
            return True
        for tracked in list(self._tracked.values()):
            if self._processes.ending(tracked.session.pid) is not None:
                self._lost(tracked)
        return False

    def _collect_all(self) -> None:
        for tracked in list(self._tracked.values()):
            try:
                epoch = tracked.session.collect()
            except TargetGone:
                self._lost(tracked)
                continue
            mappings = tracked.mappings
            with suppress(TargetGone):  # the epoch is there all the same; the next collect will say it
                mappings = tracked.session.mappings()
            self._write(tracked, epoch, mappings)

    def _write(self, tracked: _Tracked, epoch: Epoch, mappings: Sequence[Mapping]) -> None:
        pid = tracked.session.pid
        started_ns, ended_ns = epoch.started_ns - self._origin_ns, epoch.ended_ns - self._origin_ns
        if mappings is not tracked.mappings:
            # What appeared was there for this epoch, what went was there for part of it.
            self._writer.mappings(pid, mappings, first_ns=started_ns, last_ns=ended_ns)
            tracked.mappings = mappings
        row = EpochRow(
            pid=pid,
            index=tracked.n_epochs,
            started_ns=started_ns,
            ended_ns=ended_ns,
            regions=epoch.regions,
            assumed=epoch.assumed,
            blind_spots=epoch.blind_spots + tracked.unseen,
        )
        self._writer.epoch(row)
        self._n_page_writes += epoch.regions.pages
        tracked.n_epochs += 1
        tracked.unseen = ()

    def _lost(self, tracked: _Tracked) -> None:
        """The address space is gone, and with it what was written since the last collect."""
        session = tracked.session
        ending = self._processes.fate(session.pid)
        session.close()
        del self._tracked[session.pid]
        reason = str(ending) if ending else "replaced its program by exec"
        at_ns = self._now_ns()
        spots = tracked.unseen + _unseen(tracked.mappings, f"written after the last collect before it {reason}")
        self._writer.epoch(
            EpochRow(session.pid, tracked.n_epochs, at_ns, at_ns, Regions(), Regions(), blind_spots=spots)
        )
        self._writer.process_ended(
            at_ns, session.pid, exit_status=ending.exit_status if ending else None, reason=reason
        )
        self._last_ending = f"process {session.pid} ({session.name}) {reason}"
        if ending is None:
            self._known_children.discard(session.pid)
            self._note(f"{self._last_ending}; what it writes after that is recorded once it is attached again")
            self._try_open(session.pid, "written between its exec and being attached again")
        else:
            # It stays among its parent's children until the parent has asked for its status.
            self._known_children.add(session.pid)

    def _look_for_children(self) -> None:
        """Attach to new children; where they are not to be followed, say once that they exist."""
        now_ns = self._now_ns()
        if not self._policy.follow and now_ns < self._looked_for_children_ns + _LOOK_FOR_CHILDREN_NS:
            return
        self._looked_for_children_ns = now_ns
        found = {child: pid for pid in list(self._tracked) for child in self._processes.children(pid)}
        # A number that is no child any more may become another process.
        self._known_children &= found.keys() | self._tracked.keys()
        for child in sorted(found.keys() - self._known_children - self._tracked.keys()):
            self._known_children.add(child)
            if self._policy.follow:
                self._try_open(child, "written between its fork and being attached")
            else:
                self._note(f"process {found[child]} has a child, {child}, which --follow would record, too")

    def _try_open(self, pid: int, unseen: str) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self.add(self._processes.open(pid), unseen_because=unseen)
            except TargetGone:
                if self._processes.fate(pid) is None:
                    continue  # another exec: children and wrapper scripts do so just when they are attached to
                self._note(f"process {pid} ended before it could be attached")
            except PagewatchError as error:
                self._note(f"process {pid} is not recorded: {error}")
            except OSError as error:
                # No room for one process more is no reason to give up those that are recorded.
                self._note(f"process {pid} is not recorded: {error.strerror}")
            return
        self._note(f"process {pid} is not recorded: it replaced its program {_ATTEMPTS} times while being attached")

    def _note(self, text: str) -> None:
        self._n_notes += 1
        self._writer.note(self._now_ns(), text)

    def _now_ns(self) -> int:
        return self._clock.now_ns() - self._origin_ns

    def _progress(self) -> Progress:
        return Progress(
            elapsed_ns=self._now_ns(),
            n_epochs=self._writer.n_epochs,
            n_page_writes=self._n_page_writes,
            n_bytes=self._writer.n_bytes,
            n_processes=len(self._pids),
            n_late=self._n_late,
            n_notes=self._n_notes,
        )


def _unseen(mappings: Sequence[Mapping], detail: str) -> tuple[BlindSpot, ...]:
    return tuple(BlindSpot(m.start, m.end, BlindReason.NOT_FOLLOWED, detail) for m in mappings if m.writable)


def _why(error: BaseException) -> str:
    return str(error) if isinstance(error, PagewatchError) else f"an error in the recorder: {error!r}"
