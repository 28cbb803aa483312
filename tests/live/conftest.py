"""Processes that do what unit tests cannot: run another program in the middle."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def other_program() -> Iterator[tuple[int, Callable[[], None]]]:
    """Pid of a process, and what makes it execute another program; that has happened when the call returns."""
    code = "import os; print(1, flush=True); input(); os.execvp('sh', ['sh', '-c', 'echo 2; read line'])"
    child = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout.readline() == b"1\n"

        def go_on() -> None:
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert child.stdout.readline() == b"2\n"

        yield child.pid, go_on
        child.kill()
