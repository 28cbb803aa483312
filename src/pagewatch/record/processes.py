"""What the recorder needs of a machine: processes, one of them under tracking, and how it ended."""

import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pagewatch.trackers.base import Epoch
from pagewatch.vocab.mapping import Mapping


class Session(Protocol):
    """One address space under tracking."""

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    @property
    def parent_pid(self) -> int:
        """The parent when tracking began."""
        ...

    @property
    def name(self) -> str:
        """The program's name when tracking began."""
        ...

    def collect(self) -> Epoch:
        """See :meth:`pagewatch.trackers.base.Tracker.collect`.

        :raises TargetGone: the address space is gone: the process ended, or it replaced its program.
        """
        ...

    def mappings(self) -> Sequence[Mapping]:
        """What is mapped now; the same object as long as nothing changed.

        :raises TargetGone: as for :meth:`collect`.
        """
        ...

    def close(self) -> None:
        """Stop tracking and leave the process as it was found."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended."""

    exit_status: int | None
    """Exit code, or minus the number of the signal that ended it; None where nobody can tell."""

    def __str__(self) -> str:
        """Completes "process PID ..."."""
        if self.exit_status is None:
            return "ended"
        if self.exit_status < 0:
            with suppress(ValueError):
                return f"was ended by {signal.Signals(-self.exit_status).name}"
            return f"was ended by signal {-self.exit_status}"
        return f"exited with status {self.exit_status}"


class Processes(Protocol):
    """The processes of a machine."""

    def open(self, pid: int) -> Session:
        """Attach to a process and begin to track it.

        :raises PagewatchError: that is not possible.
        """
        ...

    def children(self, pid: int) -> Sequence[int]:
        """The children of a process that have memory of their own; none if it is gone.

        One made by vfork runs in its parent's memory, and is recorded with it, until it loads a program.
        """
        ...

    def ending(self, pid: int) -> Ending | None:
        """How a process ended that was opened here, or was gone when it was tried to be; None while it runs."""
        ...

    def fate(self, pid: int) -> Ending | None:
        """What became of a process whose address space is gone: None if it has another one, by exec.

        Waits a little until that is clear: a process loses its memory before it has ended.
        """
        ...
