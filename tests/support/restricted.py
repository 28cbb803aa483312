"""The command line of pagewatch under restrictions: ``python -m support.restricted RESTRICTION... -- ARGUMENTS``.

Restrictions hold until the process ends, so each test has a process of its own (see :func:`run`). They are:

* ``deny=CALL:ERRNO``: a seccomp filter that refuses a system call;
* ``undumpable``: as after a change of user;
* ``no-thp``: transparent huge pages are off for this process;
* ``descriptors=N``: no more than N;
* ``embedded``: an interpreter that does not know its own program.
"""

import ctypes
import errno
import json
import os
import resource
import site
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import pagewatch
from pagewatch.cli import main as pagewatch_main
from pagewatch.linux.syscalls import syscall_number

_TESTS = Path(__file__).parents[1]

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _PR_SET_THP_DISABLE = 4, 22, 38, 41
_SECCOMP_MODE_FILTER = 2
_LD_NUMBER, _JEQ, _RET = 0x20, 0x15, 0x06  # BPF_LD|W|ABS of seccomp_data.nr, BPF_JMP|JEQ|K, BPF_RET|K
_RET_ERRNO, _RET_ALLOW = 0x00050000, 0x7FFF0000

NOBODY = 65534


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def doctor(*restrictions: str, user: int | None = None) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of ``pagewatch doctor --json`` under restrictions, as that user."""
    result = run(["doctor", "--json"], *restrictions, user=user)
    assert result.stderr == "", result.stderr
    return result.returncode, json.loads(result.stdout)


def run(arguments: Sequence[str], *restrictions: str, user: int | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the command line under restrictions, as that user."""
    paths = [str(_TESTS), str(Path(pagewatch.__file__).parents[1]), *site.getsitepackages()]
    return subprocess.run(
        [_interpreter_for(user), "-B", "-m", "support.restricted", *restrictions, "--", *arguments],
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HOME": "/"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **_as_user(user),
    )


def _as_user(user: int | None) -> dict[str, Any]:
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}


@cache
def _interpreter_for(user: int | None) -> str:
    """An interpreter of this version that the user may run: the one in use may lie in a home directory."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run([candidate, "-I", "-c", ""], check=True, capture_output=True, timeout=60, **_as_user(user))
            return candidate
    pytest.skip(f"no Python {version} can be started as user {user}")


def main() -> int:
    """Take on the restrictions, then run the command."""
    split = sys.argv.index("--")
    for restriction in sys.argv[1:split]:
        kind, _, detail = restriction.partition("=")
        _RESTRICTIONS[kind](detail)
    return pagewatch_main.run(sys.argv[split + 1 :])


def deny(detail: str) -> None:
    """Have a system call refused from here on: ``CALL:ERRNO``."""
    call, _, name = detail.partition(":")
    number, error = syscall_number(call), getattr(errno, name)
    instructions = (_Instruction * 4)(
        (_LD_NUMBER, 0, 0, 0), (_JEQ, 0, 1, number), (_RET, 0, 0, _RET_ERRNO | error), (_RET, 0, 0, _RET_ALLOW)
    )
    program = _Program(len(instructions), instructions)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _prctl(option: int, first: int, second: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(first), ctypes.c_ulong(second), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _embed(_: str) -> None:
    sys.executable = ""


def _limit_descriptors(number: str) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(number), int(number)))


_RESTRICTIONS: dict[str, Callable[[str], None]] = {
    "deny": deny,
    "undumpable": lambda _: _prctl(_PR_SET_DUMPABLE, 0),
    "no-thp": lambda _: _prctl(_PR_SET_THP_DISABLE, 1),
    "descriptors": _limit_descriptors,
    "embedded": _embed,
}


if __name__ == "__main__":
    sys.exit(main())
