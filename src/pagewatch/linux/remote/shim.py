"""What a launched program's process does before it becomes that program; run as a script of its own.

It waits until it is traced, then loads the program, which finds everything as if it had been started directly. It
imports nothing of this library. Over its gate it says that it is ready to be traced, which is also to say that its own
interpreter was loaded: the next exec is the program's. Then come the environment (its length in eight bytes, then
NAME=VALUE entries, each ended by a zero byte; a length of -1 stands for the one it was started with) and the word to go
on; back goes the errno if the program cannot be loaded.
"""

import errno
import os
import signal
import sys
from pathlib import Path

_PR_SET_PTRACER = 0x59616D61
_SHELL = "/bin/sh"
_MAX_LINE_BYTES = 256
_OWN_ENVIRONMENT = Path("/proc/self/environ")
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


def main(gate: int, surgeon: int, command: list[str]) -> None:
    """Wait at the gate, then become the program; exits with 127 if it cannot be loaded, or without a word to go on."""
    os.set_inheritable(gate, False)  # noqa: FBT003 - its only form
    _restore_signals()
    _admit(surgeon)
    os.write(gate, b"ready")
    with open(gate, "rb", closefd=False) as stream:
        n_bytes = int.from_bytes(stream.read(8), "little", signed=True)
        # os.environ is not what this process was started with: in the C locale the interpreter sets LC_CTYPE.
        block = _OWN_ENVIRONMENT.read_bytes() if n_bytes < 0 else stream.read(n_bytes)
        if stream.read(2) != b"go":
            os._exit(127)
    environment = dict(entry.split(b"=", 1) for entry in block.split(b"\0") if b"=" in entry)
    try:
        _become(command, environment)
    except OSError as error:
        os.write(gate, str(error.errno).encode())
        os._exit(127)


def _become(command: list[str], environment: dict[bytes, bytes]) -> None:
    """Load the program; a script that does not name its interpreter is the shell's, as to execvp(3)."""
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - the point of all this
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        with open(error.filename, "rb") as file:  # noqa: PTH123 - may be bytes
            # POSIX has shells tell a program for another machine from a script by this.
            if b"\0" in file.readline(_MAX_LINE_BYTES):
                raise
        os.execve(_SHELL, [_SHELL, error.filename, *command[1:]], environment)  # noqa: S606 - as above


def _restore_signals() -> None:
    """Undo what the interpreter changed; a signal that it found ignored, but for these two, it left alone."""
    for changed in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(changed, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _admit(surgeon: int) -> None:
    """Under Yama's restricted mode only an ancestor may trace, or whom the process itself names."""
    if _YAMA.exists() and _YAMA.read_text().strip() == "1":
        import ctypes  # noqa: PLC0415 - slow to load and seldom needed

        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, surgeon, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
