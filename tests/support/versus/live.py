"""The kernel's side of a comparison: driver processes, and scripts given to them."""

import marshal
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from support.versus.outcomes import MAX_PROCESSES, Arena, Outcome, Step

_TESTS = Path(__file__).parents[2]
_TIMEOUT_S = 20


class DriverDied(RuntimeError):
    """A driver ended, or did not answer: a defect of the driver, or a step that blocks."""


class Live:
    """A family of driver processes, started when first needed and again after one died."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._driver: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Live":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def run(self, arena: Arena, script: Sequence[Step], *, timeout_s: float = _TIMEOUT_S) -> list[Outcome]:
        """Carry out a script from a fresh start; the outcome of every step.

        Steps of one process go to it at once; the next process gets its steps when those are done.

        :param timeout_s: how long a process may take for the steps that it gets at once.

        :raises DriverDied: see there.
        """
        if self._driver is None:
            self._start()
        for ours in self._sockets:
            ours.settimeout(timeout_s)
        try:
            ((result, _),) = self._send(0, [("reset", *arena)])
            if result[0] != "ok":
                raise ValueError(f"no fresh start: {result}")
            return list(self._run(script))
        except (OSError, EOFError, ValueError) as error:
            status = self._end()
            raise DriverDied(f"the driver was lost ({error or 'no answer'}, status {status}) in {script!r}") from error

    def close(self) -> None:
        """End all drivers."""
        self._end()

    def _run(self, script: Sequence[Step]) -> Iterator[Outcome]:
        for who, steps in groupby(script, key=lambda step: step[1]):
            yield from self._send(int(str(who)), [(name, *rest) for name, _, *rest in steps])

    def _send(self, who: int, steps: list[Step]) -> list[Outcome]:
        request = marshal.dumps(steps)
        channel = self._sockets[who]
        channel.sendall(struct.pack("I", len(request)) + request)
        (n_bytes,) = struct.unpack("I", _receive(channel, 4))
        answer: list[Outcome] = marshal.loads(_receive(channel, n_bytes))
        return answer

    def _start(self) -> None:
        with ExitStack() as theirs:
            pairs = [socket.socketpair() for _ in range(MAX_PROCESSES)]
            for _, child in pairs:
                theirs.enter_context(child)
            self._sockets = [ours for ours, _ in pairs]
            fds = [child.fileno() for _, child in pairs]
            self._driver = subprocess.Popen(
                [sys.executable, "-S", "-m", "support.versus.driver", *map(str, fds)],
                pass_fds=fds,
                env={**os.environ, "PYTHONPATH": str(_TESTS)},
            )

    def _end(self) -> int | None:
        if self._driver is None:
            return None
        # Children follow their parent: PR_SET_PDEATHSIG.
        self._driver.send_signal(signal.SIGKILL)
        status = self._driver.wait()
        for ours in self._sockets:
            ours.close()
        self._driver, self._sockets = None, []
        return status


def _receive(channel: socket.socket, n_bytes: int) -> bytes:
    data = channel.recv(n_bytes, socket.MSG_WAITALL)
    if len(data) != n_bytes:
        raise EOFError
    return data
