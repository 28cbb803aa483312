"""Attaching to a running, unmodified process."""

import os
from collections.abc import Mapping

from pagewatch.linux.remote.client import Surgeon
from pagewatch.linux.remote.identity import Identity, shares_memory
from pagewatch.linux.remote.procstat import read_stat
from pagewatch.linux.remote.protocol import Answer, Request
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import CannotAttach, InvalidArgument


class Attachment(Closing):
    """A userfaultfd of another process's address space; a context manager.

    The process itself runs on and knows nothing of it. The descriptor has not been through UFFDIO_API yet. Whatever
    was registered through it is lifted by the kernel when its last copy is closed.
    """

    def __init__(self, identity: Identity, uffd_fd: int, answer: Answer) -> None:
        """Takes over the identity and the descriptor."""
        self.identity = identity
        self.uffd_fd = uffd_fd
        """-1 once it was taken or closed."""
        self.tid = answer.tid
        """The thread that was stopped: not the leader, if that had exited."""
        self.phases_ns: Mapping[str, int] = answer.phases_ns
        """The parts of the stop, in order."""

    @property
    def pid(self) -> int:
        """Of the target."""
        return self.identity.pid

    @property
    def stopped_ns(self) -> int:
        """How long the thread was stopped, seen from outside, from asking it to stop to letting it go."""
        return sum(self.phases_ns.values())

    def take_uffd(self) -> int:
        """The descriptor, which the caller closes from here on."""
        descriptor, self.uffd_fd = self.uffd_fd, -1
        return descriptor

    def close(self) -> None:
        """Close the descriptor, unless it was taken, and give up the identity; doing so twice is no error."""
        descriptor = self.take_uffd()
        if descriptor >= 0:
            os.close(descriptor)
        self.identity.close()

    def __repr__(self) -> str:
        return f"<Attachment to process {self.pid}>"


def attach(pid: int, *, timeout_s: float = 2.0) -> Attachment:
    """Take a userfaultfd out of a running process; one of its threads stops for less than a millisecond.

    Nothing is written into the process, and killing the caller at any moment leaves it unharmed. A system call that
    the stopped thread was blocked in goes on (with the time that was left, for calls that the kernel can restart so).

    :param timeout_s: how long a thread may take to stop.
    :raises TargetGone: it does not exist, or exited meanwhile.
    :raises CannotAttach: its state forbids it: traced already, 32-bit, filtered by seccomp, not stopping, and so on.
    :raises NotPermitted: ptrace access is needed and not granted.
    :raises FeatureMissing: this machine or kernel cannot.
    """
    if not timeout_s > 0:
        raise InvalidArgument(f"a timeout is a positive number of seconds, not {timeout_s}")
    identity = Identity(pid)
    try:
        _check_own_memory(pid)
        with Surgeon() as surgeon:
            answer, uffd = surgeon.ask(Request(pid, int(timeout_s * 1e9)), [identity.pidfd])
    except BaseException:
        identity.close()
        raise
    return Attachment(identity, uffd, answer)


def _check_own_memory(pid: int) -> None:
    """Refuse a child of vfork: what is taken out of it is its parent's, and stays that when the child calls exec.

    One that has memory of its own now never shares its parent's again.
    """
    stat = read_stat(pid)
    if stat is not None and stat.parent and shares_memory(pid, stat.parent):
        raise CannotAttach(
            pid,
            f"it runs in the memory of its parent, process {stat.parent}",
            "a child of vfork does so until it loads a program: try again then, or attach to its parent",
        )
