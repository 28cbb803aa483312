"""Starting a program that is attached to before its first instruction."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pagewatch.linux.proc import hint_for_user
from pagewatch.linux.remote.attach import Attachment
from pagewatch.linux.remote.client import Surgeon
from pagewatch.linux.remote.identity import Identity
from pagewatch.linux.remote.protocol import READY, Request
from pagewatch.linux.remote.rights import lost_when_traced
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import CannotLaunch, InvalidArgument, TargetGone

_SHIM = str(Path(__file__).with_name("shim.py"))
_TIMEOUT_NS = 10_000_000_000

Stream = int | IO[bytes] | None
"""As subprocess.Popen takes it; None inherits this process's own."""


class Launched(Closing):
    """A program, attached to and stopped at its first instruction; a context manager.

    It is this process's child, with the terminal, session and process group that a plain child has. Leaving the
    context releases it, if that was not done, and closes the attachment; it neither ends the program nor waits
    for it.
    """

    def __init__(self, process: subprocess.Popen[bytes], attachment: Attachment, surgeon: Surgeon) -> None:
        """Takes over all three."""
        self.process = process
        self.attachment = attachment
        self._surgeon: Surgeon | None = surgeon

    @property
    def pid(self) -> int:
        """Of the program."""
        return self.process.pid

    def release(self) -> None:
        """Let the program run; doing so twice is no error."""
        surgeon, self._surgeon = self._surgeon, None
        if surgeon is not None:
            surgeon.release()
            surgeon.close()

    def wait(self, timeout_s: float | None = None) -> int:
        """The program's exit code, negative for the signal that ended it; it must have been released.

        :raises subprocess.TimeoutExpired: it still runs then.
        """
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """Release the program, close the attachment; doing so twice is no error."""
        self.release()
        self.attachment.close()

    def __repr__(self) -> str:
        return f"<Launched process {self.pid}>"


def launch(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    close_fds: bool = True,
) -> Launched:
    """Start a program, attached to and stopped before its first instruction; :meth:`Launched.release` lets it run.

    Arguments mean what they mean to ``subprocess.Popen``. If the caller dies, the program runs on, untracked.

    :raises CannotLaunch: it is not found, may not be run, or loses its rights when traced.
    :raises CannotAttach: it is of a kind that cannot be attached to, such as 32-bit; it has not run.
    :raises NotPermitted: tracing is forbidden even to a parent.
    :raises InvalidArgument: no command.
    """
    words = (*argv, *(env or {}), *(env or {}).values())
    if not argv or any("\0" in word for word in words):
        raise InvalidArgument("a command is at least one word, and no word holds a zero byte")
    _check_rights(argv[0], os.environ if env is None else env, cwd)
    surgeon = Surgeon()
    try:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                options = {"cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr, "close_fds": close_fds}
                process = _start_shim(argv, theirs, surgeon, options)
            attachment = _attach_at_exec(process, argv[0], _packed(env), ours, surgeon)
    except BaseException:
        surgeon.close()
        raise
    return Launched(process, attachment, surgeon)


def _check_rights(command: str, environment: Mapping[str, str], cwd: str | os.PathLike[str] | None) -> None:
    path = str(Path(cwd or os.curdir).absolute() / command) if os.sep in command else command
    found = shutil.which(path, path=environment.get("PATH"))
    rights = lost_when_traced(Path(found)) if found else ""
    if rights:
        hint = hint_for_user("run as root", root="a container needs the capability SYS_PTRACE")
        raise CannotLaunch(command, f"it runs with {rights}, and would lose them under trace", hint)


def _start_shim(
    argv: Sequence[str], gate: socket.socket, surgeon: Surgeon, options: Mapping[str, Any]
) -> subprocess.Popen[bytes]:
    # By name, and never by closing nothing: Popen would use posix_spawn, whose glibc leaves two signals ignored.
    kept = () if options["close_fds"] else _inheritable_descriptors()
    options = {**options, "close_fds": True, "pass_fds": (gate.fileno(), *kept)}
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _SHIM, str(gate.fileno()), str(surgeon.pid), *argv], **options
        )
    except OSError as error:
        if error.filename is None:
            # Not about the program or its directory: out of descriptors or processes.
            raise
        raise CannotLaunch(argv[0], f"{error.strerror}: {error.filename}") from None


def _inheritable_descriptors() -> list[int]:
    found = []
    for number in (int(entry.name) for entry in Path("/proc/self/fd").iterdir()):
        with suppress(OSError):  # the listing's own is closed by now
            if number > 2 and os.get_inheritable(number):
                found.append(number)
    return found


def _attach_at_exec(
    process: subprocess.Popen[bytes],
    command: str,
    environment: bytes,
    gate: socket.socket,
    surgeon: Surgeon,
) -> Attachment:
    """Let the shim load the program; on any failure it is ended and collected."""
    try:
        _wait_until_ready(gate, command)
        identity = Identity(process.pid)
        try:
            gate.sendall(environment)
            request = Request(process.pid, _TIMEOUT_NS, at_exec=True)
            answer, uffd = surgeon.ask(request, [identity.pidfd, gate.fileno()])
        except BaseException:
            identity.close()
            raise
    except BaseException as error:
        process.kill()
        surgeon.close()
        with process:
            process.wait()
        if isinstance(error, (TargetGone, OSError)) and (said := _errno_from(gate)):
            raise CannotLaunch(command, os.strerror(said)) from None
        raise
    return Attachment(identity, uffd, answer)


def _wait_until_ready(gate: socket.socket, command: str) -> None:
    """A surgeon that seizes the shim before takes the loading of its interpreter for that of the program."""
    gate.settimeout(_TIMEOUT_NS / 1e9)
    try:
        said = gate.recv(len(READY))
    except TimeoutError:
        raise CannotLaunch(command, "the process that is to load it does not get ready") from None
    gate.settimeout(None)
    if said != READY:
        raise CannotLaunch(command, "the process that was to load it has ended")


def _packed(env: Mapping[str, str] | None) -> bytes:
    """An environment as the shim reads it."""
    if env is None:
        return (-1).to_bytes(8, "little", signed=True)
    block = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
    return len(block).to_bytes(8, "little", signed=True) + block


def _errno_from(gate: socket.socket) -> int:
    """What the shim said before it gave up; 0 if it said nothing."""
    gate.settimeout(0)
    try:
        return int(gate.recv(16) or b"0")
    except OSError:
        return 0
