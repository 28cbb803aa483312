"""Opening files of /proc/PID, with errors in the words of this library."""

import errno
import os
from functools import cache
from pathlib import Path

from pagewatch.vocab.errors import NotPermitted, TargetGone

PTRACE_HINT = (
    "run as root or as the process's user; a container needs the capability SYS_PTRACE, "
    "and kernel.yama.ptrace_scope must allow it"
)
_DUMPABLE_HINT = (
    "run as root, or call prctl(PR_SET_DUMPABLE, 1) first; a program that changed its user or gained rights "
    "when it started is not dumpable"
)
"""What a user can do who is refused ptrace access."""


def open_proc(pid: int, name: str) -> int:
    """Open /proc/PID/NAME for reading; the caller closes the descriptor.

    :raises TargetGone: there is no such process, or it has no memory (a kernel thread, a zombie).
    :raises NotPermitted: the file needs ptrace access to the process, which this user lacks.
    """
    try:
        return os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise TargetGone(pid, "does not exist") from None
    except ProcessLookupError:
        raise TargetGone(pid, "has no memory (a kernel thread, or it is exiting)") from None
    except PermissionError:
        raise NotPermitted(f"/proc/{pid}/{name} may not be read", PTRACE_HINT) from None


def read_whole(fd: int) -> bytes:
    """All of a /proc file from its beginning, through an open descriptor.

    Empty when the address space the descriptor was opened on is gone: /proc binds it to the memory, not to
    the pid, so it notices an exec, too.
    """
    parts: list[bytes] = []
    offset = 0
    while True:
        try:
            part = os.pread(fd, 1 << 17, offset)
        except OSError as error:
            if error.errno == errno.ESRCH:
                return b""
            raise
        if not part:
            return b"".join(parts)
        parts.append(part)
        offset += len(part)


def parse_fields(text: str) -> dict[str, str]:
    """``Name:  value`` lines, as in /proc/PID/status and fdinfo; the first of equal names wins."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def under_seccomp_filter() -> bool:
    """Whether a seccomp filter holds this process, as containers and sandboxes have it."""
    return parse_fields(Path("/proc/self/status").read_text()).get("Seccomp", "0") != "0"


@cache
def meminfo_path() -> Path:
    """Where the kernel tells how much memory is free."""
    return Path("/proc/meminfo")


def available_bytes() -> int:
    """Memory that can be had without swapping, in bytes; 0 if the kernel does not say."""
    value = parse_fields(meminfo_path().read_text()).get("MemAvailable", "0 kB")
    return int(value.split()[0]) * 1024
