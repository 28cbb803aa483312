"""How a process ended, also one that is nobody's child here."""

import os
import select
from pathlib import Path

from pagewatch.linux.abi.pidfd import PIDFD_GET_INFO, PIDFD_INFO_EXIT, pidfd_info
from pagewatch.linux.syscalls import ioctl

_EXIT_CODE_FIELD = 49
"""Of /proc/PID/stat, counted from the state, which follows the command's last parenthesis."""


def has_ended(pidfd: int) -> bool:
    """Whether all threads of the process have exited."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def exit_status(pid: int, pidfd: int) -> int | None:
    """Exit code of a process that has ended, or minus the number of the signal that ended it.

    None where the kernel does not tell: it was collected by its parent and Linux is older than 6.15, or this
    user may not trace it.

    :param pidfd: of the process.
    """
    status = _of_zombie(pid)
    if status is None:
        status = _of_collected(pidfd)
    return None if status is None else os.waitstatus_to_exitcode(status)


def _of_zombie(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # Another process that has the pid by now is no zombie, or does not matter: 6.15 and later are asked below.
    return int(fields[_EXIT_CODE_FIELD]) if fields[0] == b"Z" else None


def _of_collected(pidfd: int) -> int | None:
    info = pidfd_info(mask=PIDFD_INFO_EXIT)
    try:
        ioctl(pidfd, PIDFD_GET_INFO, info)
    except OSError:
        # ESRCH while it is about to become a zombie, ENOTTY or EINVAL before Linux 6.15.
        return None
    return int(info.exit_code) if info.mask & PIDFD_INFO_EXIT else None
