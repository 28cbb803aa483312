"""Live processes under tracking, as the recorder wants them (``pagewatch.record.Processes``)."""

import os
import resource
import select
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from pagewatch.linux import ending
from pagewatch.linux.process import Process
from pagewatch.linux.remote.identity import shares_memory
from pagewatch.linux.remote.launch import Launched
from pagewatch.linux.remote.procstat import ProcStat, child_ids, read_stat
from pagewatch.open import track
from pagewatch.record import Ending
from pagewatch.trackers.base import Epoch, Tracker
from pagewatch.vocab.errors import CannotAttach, TargetGone
from pagewatch.vocab.mapping import Mapping

_PATIENCE_NS = 2_000_000_000
"""With a process that has lost its memory; a debugger or a file system that does not answer may hold it for ever."""
_DESCRIPTORS_FOR_ALL_ELSE = 24
"""A process under tracking has 6; while it is attached to there are a dozen more."""


class LiveSession:
    """One address space under tracking; made by :class:`LiveProcesses`."""

    def __init__(self, process: Process, tracker: Tracker, stat: ProcStat, close: Callable[[], None]) -> None:
        """:param stat: of the process, as tracking began.

        :param close: releases all of it.
        """
        self.pid = process.pid
        self.parent_pid = stat.parent
        self.name = stat.command
        self.method = tracker.method
        """How it is tracked."""
        self.close = close
        """See :meth:`pagewatch.record.Session.close`."""
        self._process = process
        self._tracker = tracker

    def collect(self) -> Epoch:
        """See :meth:`pagewatch.record.Session.collect`."""
        return self._tracker.collect()

    def mappings(self) -> Sequence[Mapping]:
        """See :meth:`pagewatch.record.Session.mappings`."""
        return self._process.maps()


class LiveProcesses:
    """The processes of this machine. A context manager; it keeps a descriptor of each that it was asked to open."""

    def __init__(self, *, method: str = "auto", wake_fd: int | None = None) -> None:
        """:param method: how to track; see :func:`pagewatch.open.track`.

        :param wake_fd: a descriptor that becomes readable when :meth:`wait` should return; not owned.
        """
        self._method = method
        self._wake_fd = wake_fd
        self._pidfds: dict[int, int] = {}
        self._watched: set[int] = set()
        self._own: dict[int, subprocess.Popen[bytes]] = {}
        self._endings: dict[int, Ending] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pidfd in self._pidfds.values():
            os.close(pidfd)
        self._pidfds.clear()

    def open(self, pid: int) -> LiveSession:
        """Attach to a process and begin to track it.

        :raises PagewatchError: that is not possible.
        """
        _check_room(pid)
        is_new = pid not in self._pidfds
        self._keep_descriptor(pid)
        try:
            with ExitStack() as resources:
                process = resources.enter_context(Process(pid))
                resources.enter_context(process.attach())
                return self._session(process, resources)
        except TargetGone:
            # How it ended will be asked for.
            raise
        except BaseException:
            if is_new:
                os.close(self._pidfds.pop(pid))
            raise

    def adopt(self, launched: Launched) -> LiveSession:
        """Begin to track a program that was started for it and does not run yet.

        :raises PagewatchError: that is not possible.
        """
        with ExitStack() as resources:
            process = resources.enter_context(Process(launched.pid))
            resources.enter_context(process.adopt(launched.attachment))
            self._own[launched.pid] = launched.process
            return self._session(process, resources)

    def children(self, pid: int) -> Sequence[int]:
        """See :meth:`pagewatch.record.Processes.children`."""
        return [child for child in child_ids(pid) if not shares_memory(child, pid)]

    def ending(self, pid: int) -> Ending | None:
        """See :meth:`pagewatch.record.Processes.ending`."""
        if pid in self._endings:
            return self._endings[pid]
        pidfd = self._pidfds.get(pid)
        if pidfd is None:
            return Ending(None)  # there was none to be opened
        if not ending.has_ended(pidfd):
            return None
        own = self._own.pop(pid, None)
        found = Ending(own.wait() if own else ending.exit_status(pid, pidfd))
        os.close(self._pidfds.pop(pid))
        self._endings[pid] = found
        return found

    def fate(self, pid: int) -> Ending | None:
        """What became of a process whose address space is gone: None if it has another one, by exec.

        Waits until that is clear: a process loses its memory a little before it has ended.
        """
        deadline_ns = time.monotonic_ns() + _PATIENCE_NS
        while (found := self.ending(pid)) is None and not _has_memory(pid):
            if time.monotonic_ns() > deadline_ns:
                return Ending(None)
            time.sleep(0.001)
        return found

    def wait(self, until_ns: int) -> None:
        """Wait for a time of the monotonic clock, or for a process to end, or for ``wake_fd``."""
        poll = select.poll()
        for pid in self._watched & self._pidfds.keys():
            poll.register(self._pidfds[pid], select.POLLIN)
        if self._wake_fd is not None:
            poll.register(self._wake_fd, select.POLLIN)
        poll.poll(max(0.0, (until_ns - time.monotonic_ns()) / 1e6))
        if self._wake_fd is not None:
            _drain(self._wake_fd)

    def _session(self, process: Process, resources: ExitStack) -> LiveSession:
        pid = process.pid
        stat = read_stat(pid)
        if stat is None:
            raise TargetGone(pid)
        self._keep_descriptor(pid)
        tracker = resources.enter_context(track(process, method=self._method))
        self._watched.add(pid)
        resources.callback(self._watched.discard, pid)
        return LiveSession(process, tracker, stat, resources.pop_all().close)

    def _keep_descriptor(self, pid: int) -> None:
        """Be able to tell how the process ends, even if it does before it is attached."""
        if pid in self._pidfds:
            return
        self._endings.pop(pid, None)
        try:
            self._pidfds[pid] = os.pidfd_open(pid)
        except ProcessLookupError:
            raise TargetGone(pid, "does not exist") from None


def command_line(pid: int) -> tuple[str, ...]:
    """The arguments of a running program; its name if it has hidden them.

    :raises TargetGone: there is no such process.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        raise TargetGone(pid, "does not exist") from None
    stat = read_stat(pid)
    return tuple(os.fsdecode(word) for word in words[:-1]) or ((stat.command,) if stat else ())


def _check_room(pid: int) -> None:
    """Refuse a further process while collecting from the others, finding children and writing still have descriptors.

    :raises CannotAttach: too few are left.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit - len(list(Path("/proc/self/fd").iterdir())) < _DESCRIPTORS_FOR_ALL_ELSE:
        raise CannotAttach(
            pid,
            f"too few file descriptors are left of the {limit} that pagewatch may have",
            "raise the limit: ulimit -n",
        )


def _has_memory(pid: int) -> bool:
    try:
        # An exiting process has an empty one.
        return bool(Path(f"/proc/{pid}/maps").read_bytes())
    except OSError:
        return False


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 64):
            pass
    except BlockingIOError:
        return
