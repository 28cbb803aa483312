"""What every tracker is: arm, collect epochs, close. The methods differ only in how.

The contract of an epoch:

1. A write that finished before ``collect()`` began is in this epoch or an earlier one.
2. A write that overlaps ``collect()`` is in this epoch or the next, never in neither.
3. Pages that were never armed are never called written: the tracker refuses, arms or names them.
4. What the method cannot see is listed in ``Epoch.blind_spots``, with its reason.
5. Over-reporting only where stated (``Epoch.assumed``, huge pages that cannot be split); under-reporting never.
"""

import os
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Self

from pagewatch.ports import Clock
from pagewatch.vocab.blindspots import BlindSpot
from pagewatch.vocab.errors import TrackerBusy, TrackerClosed
from pagewatch.vocab.regions import Regions
from pagewatch.vocab.wording import plural


@dataclass(frozen=True, slots=True)
class Epoch:
    """What was written between two collects (or since arming)."""

    regions: Regions
    """The written pages, ``assumed`` ones included."""
    index: int
    """0 for the first collect after arming."""
    started_ns: int
    """When ``collect()`` began, on the world's monotonic clock."""
    ended_ns: int
    """When ``collect()`` was done."""
    assumed: Regions
    """Pages reported as written only because they were not watched."""
    blind_spots: tuple[BlindSpot, ...]
    """Ranges whose writes this method may have missed in this epoch."""


@dataclass(frozen=True, slots=True)
class TrackerStatistics:
    """Totals since the tracker was armed."""

    epochs: int = 0
    regions_reported: int = 0
    """Runs of written pages, summed over epochs. (Counting pages would cost a tenth of a collect.)"""
    armed_bytes: int = 0
    """Bytes under tracking now."""
    armed_late_bytes: int = 0
    """Bytes that were found and armed by a collect, not by the first arming."""
    collect_ns: int = 0
    """Time inside ``collect()``, summed over epochs."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a method hands to :class:`Tracker` for one epoch."""

    regions: Regions
    assumed: Regions
    blind_spots: tuple[BlindSpot, ...]

    def joined(self, earlier: "Collected") -> "Collected":
        """Both as one epoch."""
        seen = (self.regions - self.assumed) | (earlier.regions - earlier.assumed)
        assumed = (self.assumed | earlier.assumed).plain() - seen
        spots = tuple(dict.fromkeys(earlier.blind_spots + self.blind_spots))
        return Collected(seen | assumed, assumed, spots)


class Tracker(ABC):
    """Tells which pages were written since it was last asked. Made by :func:`pagewatch.track`.

    A context manager: entering arms, leaving closes. Safe to use from several threads; each write is
    then in the epoch of exactly one of them. A collect that is interrupted (Ctrl-C) loses nothing: the next
    one of that thread reports it. A signal handler that interrupts a call may not make another:
    :class:`TrackerBusy`. A tracker belongs to the process that made it: in a forked child every call
    raises :class:`TrackerClosed`, but for close(), which does nothing there.
    """

    method: ClassVar[str]
    """Its name, as :func:`pagewatch.track` takes it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Reentrant, so that a signal handler is told that it may not enter instead of waiting for its own thread.
        self._lock = threading.RLock()
        self._busy = False
        self._owner_pid = os.getpid()
        self._is_armed = False
        self._closed = False
        self._epochs = self._regions_reported = self._collect_ns = 0
        self._undelivered: dict[int, Collected] = {}
        """By thread: what a collect had come by, and its caller perhaps has not."""

    def __enter__(self) -> Self:
        try:
            self.arm()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def arm(self) -> None:
        """Put the target under tracking; what was written before does not count. Repeating it starts afresh.

        :raises RangeNotTrackable: the kernel refuses part of the target.
        :raises TargetGone: the target is gone.
        """
        self._check_owner()
        with self._lock:
            self._check_turn()
            try:
                self._busy = True
                self._check_usable()
                self._is_armed = False
                self._undelivered = {}
                self._arm()
                self._is_armed = True
                self._epochs = self._regions_reported = self._collect_ns = 0
            finally:
                self._busy = False

    def collect(self) -> Epoch:
        """Which pages were written since the last collect, and start the next epoch, in one step per page.

        :raises TargetGone: the target exited or replaced its memory by exec.
        :raises TrackerClosed: the tracker was closed, never armed, or belongs to the parent of a fork.
        :raises TrackerBusy: a signal handler interrupted another call of the same thread.
        """
        self._check_owner()
        receiver = threading.get_ident()
        with self._lock:
            self._check_turn()
            try:
                self._busy = True
                epoch = self._next_epoch(receiver)
            finally:
                self._busy = False
        # The last thing before the caller has it: an exception up to here makes the next collect report it.
        # No call, behind which one could still come before the epoch is returned.
        if receiver in self._undelivered:
            del self._undelivered[receiver]
        return epoch

    def _next_epoch(self, receiver: int) -> Epoch:
        self._check_usable()
        if not self._is_armed:
            raise TrackerClosed("the tracker is not armed: enter it with 'with', or call arm()")
        started_ns = self._clock.now_ns()
        collected = self._collect()
        if receiver in self._undelivered:
            collected = collected.joined(self._undelivered[receiver])
        self._undelivered[receiver] = collected
        self._forget_collected()
        ended_ns = self._clock.now_ns()
        # Made into statistics when somebody asks: a collect of an idle array costs little more than its ioctl.
        index = self._epochs
        self._epochs = index + 1
        self._regions_reported += len(collected.regions)
        self._collect_ns += ended_ns - started_ns
        return Epoch(collected.regions, index, started_ns, ended_ns, collected.assumed, collected.blind_spots)

    def statistics(self) -> TrackerStatistics:
        """Totals since the tracker was armed."""
        return TrackerStatistics(
            epochs=self._epochs,
            regions_reported=self._regions_reported,
            armed_bytes=self._armed_bytes() if self._is_armed else 0,
            armed_late_bytes=self._armed_late_bytes() if self._is_armed else 0,
            collect_ns=self._collect_ns,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "armed" if self._is_armed else "not armed"
        return f"<{type(self).__name__} {state}, {plural(self._epochs, 'epoch')}>"

    def close(self) -> None:
        """End tracking and leave the target as it was found. Closing twice is no error."""
        if os.getpid() != self._owner_pid:
            # Not the child's to release. Its copy of the lock may be held by a thread that it does not have.
            self._closed = True
            return
        with self._lock:
            self._check_turn()
            try:
                self._busy = True
                if not self._closed:
                    self._closed = True
                    self._close()
            finally:
                self._busy = False

    def _check_owner(self) -> None:
        """Before the lock: in a forked child it may be held by a thread that the child does not have."""
        if os.getpid() != self._owner_pid:
            raise TrackerClosed(
                f"the tracker belongs to process {self._owner_pid}; a forked child needs a tracker of its own"
            )

    def _check_turn(self) -> None:
        if self._busy:
            raise TrackerBusy(
                "a signal handler called the tracker while its thread was using it; set a flag there, act on it later"
            )

    def _check_usable(self) -> None:
        if self._closed:
            raise TrackerClosed("the tracker is closed; make a new one with track()")

    @abstractmethod
    def _arm(self) -> None:
        """Register and protect; called with the lock held, possibly again."""

    @abstractmethod
    def _collect(self) -> Collected:
        """Read and re-arm; called with the lock held, after a successful ``_arm``.

        What it had read when an exception came belongs to the next call.
        """

    @abstractmethod
    def _forget_collected(self) -> None:
        """What the last ``_collect`` returned is in safe hands."""

    @abstractmethod
    def _close(self) -> None:
        """Lift protection and release; called once, with the lock held, even if never armed."""

    @abstractmethod
    def _armed_bytes(self) -> int:
        """Bytes under tracking now."""

    @abstractmethod
    def _armed_late_bytes(self) -> int:
        """Bytes that a collect found and armed."""
