"""Memory of a child process, to try on it what would disturb this one or needs another one."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pagewatch.linux.probes import child
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument

# An emulated machine takes seconds to start an interpreter.
_TIMEOUT_S = 30.0


class Target:
    """The populated memory [start, end) of a child process; offsets are bytes from ``start``."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """:param process: runs :func:`command` with pipes to its input and output; not owned.

        :raises InvalidArgument: one of the pipes is missing.
        """
        if process.stdin is None or process.stdout is None:
            raise InvalidArgument("a child process to be probed needs pipes to its input and output")
        self.pid = process.pid
        self._input, self._output = process.stdin, process.stdout
        self.start = int(self._answer())
        self.end = self.start + child.N_PAGES * PAGE_SIZE

    def store(self, offset: int) -> None:
        """Have the child change the byte at ``offset``; returns when it did."""
        self._input.write(b"%d\n" % offset)
        self._input.flush()
        self._answer()

    def _answer(self) -> bytes:
        # One line is under way at most, so none hides in the buffer.
        if not select.select([self._output], [], [], _TIMEOUT_S)[0]:
            raise TimeoutError(f"the child process to be probed said nothing for {_TIMEOUT_S:.0f} s")
        line = self._output.readline()
        if not line:
            raise ChildProcessError("the child process to be probed ended early")
        return line


def command() -> list[str]:
    """How to start a child to probe.

    :raises FeatureMissing: this Python does not know its own interpreter (it is embedded in another program), or may
        not run it.
    """
    hint = "set sys.executable to its path"
    if not sys.executable:
        raise FeatureMissing("child", "the Python interpreter is not known", hint)
    if not os.access(sys.executable, os.X_OK):
        raise FeatureMissing("child", f"the interpreter {sys.executable!r} cannot be run", hint)
    return [sys.executable, "-I", "-S", str(Path(child.__file__))]


@contextmanager
def started() -> Iterator[Target]:
    """A child to probe; it is ended and collected on exit."""
    with ending(subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)) as process:
        yield Target(process)


@contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End and collect a child on exit."""
    with process:
        try:
            yield process
        finally:
            process.kill()
