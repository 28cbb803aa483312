"""What this process may do as a tracer, and what a program loses for want of it."""

import errno
import os
import stat
from pathlib import Path

from pagewatch.linux.abi.ptrace import CAP_SYS_ADMIN, CAP_SYS_PTRACE, XATTR_NAME_CAPS
from pagewatch.linux.proc import parse_fields


def has_capability(number: int) -> bool:
    """Whether the calling thread has a capability in effect, in whatever user namespace it is."""
    return bool(int(_own_status()["CapEff"], 16) >> number & 1)


def may_suspend_seccomp() -> bool:
    """Whether the kernel will let the calling thread suspend a tracee's filters; False is certain, True is likely.

    It also refuses a capability that counts in a user namespace only (``check_ptrace_options``).
    """
    return has_capability(CAP_SYS_ADMIN) and _own_status().get("Seccomp", "0") == "0"


def lost_when_traced(program: Path) -> str:
    """Whose rights a program gains when it is started, but not when this process traces it; empty if nobody's.

    The kernel starts it without them, and tells nobody, unless its tracer has CAP_SYS_PTRACE
    (``cap_bprm_creds_from_file``). Of a script the interpreter's own rights count, which are not looked for.
    """
    if has_capability(CAP_SYS_PTRACE) or _own_status().get("NoNewPrivs") == "1":
        return ""
    status = program.stat()
    is_set_group = status.st_mode & stat.S_ISGID and status.st_mode & stat.S_IXGRP
    if status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid():
        return "another user's rights"
    if is_set_group and status.st_gid != os.getegid():
        return "another group's rights"
    # Root has all of them anyway.
    return "capabilities of its own" if os.geteuid() and _has_capabilities(program) else ""


def _has_capabilities(program: Path) -> bool:
    try:
        return XATTR_NAME_CAPS in os.listxattr(program)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return False


def _own_status() -> dict[str, str]:
    return parse_fields(Path("/proc/thread-self/status").read_text())
