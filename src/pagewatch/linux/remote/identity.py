"""A process that cannot be mistaken for a later one with the same pid."""

import errno
import os
import select

from pagewatch.linux.proc import hint_for_user
from pagewatch.linux.remote.procstat import ProcStat, child_ids, live_threads, read_stat, read_status
from pagewatch.linux.syscalls import syscall
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import CannotAttach, InvalidArgument, NotPermitted, TargetGone

_KCMP_VM = 1  # include/uapi/linux/kcmp.h


class Identity(Closing):
    """A process by its pid and start time, held by a pidfd; a context manager.

    While the pidfd says that the process lives, its pid belongs to nobody else.
    """

    def __init__(self, pid: int, *, start_ticks: int | None = None) -> None:
        """Look the process up and hold it.

        :param start_ticks: what :attr:`start_ticks` was when this process was last seen; None if it never was.
        :raises TargetGone: there is none, it has exited, or its pid is another's by now.
        :raises CannotAttach: it is a kernel thread, or not a process but one of its threads.
        :raises NotPermitted: /proc hides it.
        :raises InvalidArgument: not a positive number.
        """
        if pid <= 0:
            raise InvalidArgument(f"a pid is a positive number, not {pid}")
        self.pid = pid
        self.pidfd = _open_pidfd(pid)
        try:
            stat = self._examined()
            # The pidfd was opened first: it is this start time's process, or that one is over.
            self.start_ticks = stat.start_ticks
            self.check()
            if start_ticks not in (None, self.start_ticks):
                raise TargetGone(pid, "has exited; another one has its pid now")
        except BaseException:
            self.close()
            raise

    def alive(self) -> bool:
        """Whether any thread of it is left."""
        return not has_exited(self.pidfd)

    def check(self) -> None:
        """Fail if the process has exited.

        :raises TargetGone: it has.
        """
        if not self.alive():
            raise TargetGone(self.pid)

    def threads(self) -> list[int]:
        """Its living threads, the leader first, if that is one of them.

        The leader of a process may exit before the others do. Then /proc/PID shows no memory; the directory
        /proc/PID/task/TID of a living thread does.
        """
        return [tid for tid, _ in live_threads(self.pid)] if self.alive() else []

    def children(self) -> list[int]:
        """The processes that it is the parent of, ascending."""
        return child_ids(self.pid) if self.alive() else []

    def close(self) -> None:
        """Give the process up; doing so twice is no error."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _examined(self) -> ProcStat:
        stat = read_stat(self.pid)
        if stat is None:
            self.check()
            hidden = "it is mounted with hidepid" + hint_for_user(": run as root", root=" or belongs to a container")
            raise NotPermitted(f"/proc does not show process {self.pid}", hidden)
        if stat.is_kernel_thread:
            raise CannotAttach(self.pid, f"it is a kernel thread ({stat.command})", "it has no memory of its own")
        if stat.has_exited and not live_threads(self.pid):
            raise TargetGone(self.pid, "has exited; only its exit code is left for its parent (a zombie)")
        return stat

    def __repr__(self) -> str:
        return f"<Identity of process {self.pid}, started at tick {self.start_ticks}>"


def has_exited(pidfd: int) -> bool:
    """Whether the process of a pidfd has exited, all its threads included."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def shares_memory(pid: int, other: int) -> bool:
    """Whether two processes run in the same memory, as a child of vfork and its parent do; False if nobody tells."""
    try:
        return syscall("kcmp", pid, other, _KCMP_VM, 0, 0) == 0
    except OSError:
        # One is gone, or may not be traced, or the kernel was built without CONFIG_KCMP.
        return False


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (ProcessLookupError, OverflowError):
        raise TargetGone(pid, "does not exist") from None
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
    # The number of a thread that leads no process: EINVAL, in later kernels ENOENT.
    process = int(read_status(pid, pid).get("Tgid", "0"))
    if process in (0, pid):
        raise TargetGone(pid, "does not exist")
    raise CannotAttach(pid, f"it is a thread of process {process}", f"use {process}")
