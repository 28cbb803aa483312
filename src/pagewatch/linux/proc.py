"""Opening files of /proc/PID, with errors in the words of this library."""

import errno
import os
from contextlib import suppress
from pathlib import Path

from pagewatch.vocab.errors import NotPermitted, TargetGone

ADDRESS_SPACE_GONE = "exited, or replaced its memory by exec"
"""Reason of a TargetGone; /proc files and userfaultfds stay with the memory they were opened on."""
_DUMPABLE_HINT = (
    "call prctl(PR_SET_DUMPABLE, 1) first; a program that changed its user or gained rights when it started is "
    "not dumpable"
)

_MEMINFO = "/proc/meminfo"


def hint_for_user(text: str, *, root: str = "") -> str:
    """Advice for whoever this is: nobody who is root already is told to become it.

    :param root: what to say to root instead.
    """
    return text if os.geteuid() else root


def ptrace_hint() -> str:
    """What a user can do who is refused ptrace access."""
    return hint_for_user(
        "run as root or as the process's user; a container needs the capability SYS_PTRACE, "
        "and kernel.yama.ptrace_scope must allow it",
        root="root in a container needs the capability SYS_PTRACE, in the user namespace of the process, "
        "and kernel.yama.ptrace_scope must not be 3",
    )


def open_proc(pid: int, name: str) -> int:
    """Open /proc/PID/NAME for reading; the caller closes the descriptor.

    :raises TargetGone: there is no such process, or it has no memory (a kernel thread, a zombie).
    :raises NotPermitted: the file needs ptrace access to the process, which this user lacks.
    """
    try:
        return os.open(f"{_task_with_memory(pid)}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise TargetGone(pid, "does not exist") from None
    except ProcessLookupError:
        raise TargetGone(pid, "has no memory (a kernel thread, or it is exiting)") from None
    except PermissionError:
        if pid == os.getpid():
            reason = f"this process is not dumpable, so that its own /proc/self/{name} is closed to it"
            raise NotPermitted(reason, hint_for_user("run as root, or ") + _DUMPABLE_HINT) from None
        raise NotPermitted(f"/proc/{pid}/{name} may not be read", ptrace_hint()) from None


def _task_with_memory(pid: int) -> Path:
    """The directory of a thread that has not exited: a first thread that has shows no memory, its process may."""
    process = Path(f"/proc/{pid}")
    with suppress(OSError):
        if not _has_exited(process):
            return process
        for task in sorted((process / "task").iterdir()):
            if not _has_exited(task):
                return task
    return process


def _has_exited(task: Path) -> bool:
    return (task / "stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")


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


def read_fields(path: str) -> dict[str, str]:
    """The fields of a file of /proc. A program's own name in them need not be valid UTF-8.

    :raises OSError: there is no such file, or it may not be read.
    """
    return parse_fields(Path(path).read_bytes().decode("utf-8", "backslashreplace"))


def read_field(path: str, name: str) -> str:
    """One field of a file of /proc, for whoever looks often; empty where it is not there.

    :raises OSError: there is no such file, or it may not be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b"\n" + read_whole(fd)
    finally:
        os.close(fd)
    _, _, rest = text.partition(b"\n%b:" % name.encode())
    return rest.partition(b"\n")[0].strip().decode("utf-8", "backslashreplace")


def parse_fields(text: str) -> dict[str, str]:
    """``Name:  value`` lines, as in /proc/PID/status and fdinfo; the first of equal names wins."""
    fields: dict[str, str] = {}
    # Not splitlines(): a program chooses its own name, and may put other line separators into it.
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def under_seccomp_filter() -> bool:
    """Whether a seccomp filter holds this process, as containers and sandboxes have it."""
    return read_fields("/proc/self/status").get("Seccomp", "0") != "0"


def available_bytes() -> int:
    """Memory that can be had without swapping, in bytes; 0 if the kernel does not say."""
    value = read_fields(_MEMINFO).get("MemAvailable", "0 kB")
    return int(value.split()[0]) * 1024
