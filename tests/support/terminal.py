"""A command on a terminal of its own, as a user has it: it leads the session, keys reach its foreground group."""

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from support.commands import TIMEOUT_S


class Terminal:
    """What the command shows, and the keys it gets."""

    def __init__(self, fd: int, process: "subprocess.Popen[bytes]") -> None:
        """:param fd: the side of the pseudo-terminal that stands for screen and keyboard."""
        self.shown = ""
        self.process = process
        self._fd = fd

    def press_ctrl_c(self) -> None:
        """Press Ctrl-C."""
        os.write(self._fd, b"\x03")

    def wait_for(self, text: str) -> None:
        """Wait until the text is part of what is shown."""
        end = time.monotonic() + TIMEOUT_S
        while text not in self.shown:
            assert time.monotonic() < end, f"{text!r} was never shown; but was: {self.shown!r}"
            self._read(0.1)

    def finish(self) -> int:
        """Wait for the end of the command; its exit code."""
        end = time.monotonic() + TIMEOUT_S
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end; it showed {self.shown!r}"
            self._read(0.1)
        while self._read(0.0):
            pass
        return self.process.returncode

    def _read(self, timeout_s: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], timeout_s)
        if ready:
            self.shown += os.read(self._fd, 1 << 16).decode(errors="replace")
        return bool(ready)


@contextmanager
def on_terminal(command: Sequence[object], **options: Any) -> Iterator[Terminal]:
    """Run a command on a new terminal; it is ended afterwards, if it still runs."""
    ours, theirs = pty.openpty()
    # The first terminal that a session leader opens becomes the session's; the shell does that.
    line = 'exec <"$0" >"$0" 2>&1; exec "$@"'
    environment = {**os.environ, "TERM": "xterm"}
    try:
        with subprocess.Popen(
            ["sh", "-c", line, os.ttyname(theirs), *map(str, command)],
            start_new_session=True,
            env=environment,
            **options,
        ) as process:
            try:
                yield Terminal(ours, process)
            finally:
                process.kill()
    finally:
        # Open until now, so that nothing that was shown is lost when the last process ends.
        os.close(theirs)
        os.close(ours)
