"""Ctrl-C and SIGTERM while a recording runs: end it cleanly, and be fair to the program that is recorded."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

GRACE_NS = 2_000_000_000
"""How long a program that was started by the recorder may take to end after the signal, and is recorded."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While entered, these signals end a recording, not the recorder. For the main thread only.

    A process that was attached to goes on; the recording ends at once. A program that the recorder started
    ends, too: a terminal's Ctrl-C reaches it directly, other signals are passed on to it. It is recorded
    while it shuts down, for two seconds at most. A second signal ends the recording at once and leaves it.
    """

    def __init__(self) -> None:
        self.reason = ""
        """Why the recording should end; empty until a signal came."""
        self.count = 0
        """Signals so far."""
        self.program: subprocess.Popen[bytes] | None = None
        """What the recorder started; set it once it runs."""
        self.passed_on = False
        """Whether the program got a signal from here, so that nobody at a terminal waits for it."""
        self._deadline_ns = 0
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._handlers: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._old_wake_fd = -1

    @property
    def wake_fd(self) -> int:
        """Becomes readable when a signal came."""
        return self._reader

    def __enter__(self) -> Self:
        self._old_wake_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _SIGNALS:
            # Who started us with nohup wants that to stay.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wake_fd)
        os.close(self._reader)
        os.close(self._writer)

    @property
    def deadline_ns(self) -> int | None:
        """When the recording has to end, on the monotonic clock; None as long as no signal came."""
        return self._deadline_ns if self.count else None

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1:
            self._deadline_ns = 0
            return
        self.reason = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        if self.program is None:
            return
        self._deadline_ns = time.monotonic_ns() + GRACE_NS
        if number != signal.SIGINT or not _in_foreground():
            self.passed_on = True
            with suppress(ProcessLookupError):
                self.program.send_signal(number)


def _in_foreground() -> bool:
    """Whether this process group is the one that gets the terminal's Ctrl-C."""
    try:
        fd = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)
