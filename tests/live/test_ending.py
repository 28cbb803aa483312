"""How a process ended, whoever its parent is."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pagewatch.linux.ending import exit_status, has_ended
from support.commands import wait_until

ENDINGS = [("import os; os._exit(7)", 7), ("import os; os.kill(os.getpid(), 11)", -11), ("pass", 0)]


@contextmanager
def pidfd_of(pid: int) -> Iterator[int]:
    pidfd = os.pidfd_open(pid)
    try:
        yield pidfd
    finally:
        os.close(pidfd)


@pytest.mark.parametrize(("program", "status"), ENDINGS)
def test_the_status_of_a_zombie_is_read_without_collecting_it(program: str, status: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input();" + program], stdin=subprocess.PIPE)
    with pidfd_of(process.pid) as pidfd:
        assert not has_ended(pidfd)
        process.stdin.write(b"\n")
        process.stdin.close()
        wait_until(lambda: has_ended(pidfd), "its end")
        assert exit_status(process.pid, pidfd) == status
    assert process.wait() == status


@pytest.mark.parametrize(("program", "status"), ENDINGS)
def test_the_status_of_a_collected_process_is_told_where_the_kernel_keeps_it(program: str, status: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input();" + program], stdin=subprocess.PIPE)
    with pidfd_of(process.pid) as pidfd:
        process.communicate(b"\n")
        assert has_ended(pidfd)
        version = tuple(map(int, os.uname().release.split("-")[0].split(".")[:2]))
        assert exit_status(process.pid, pidfd) == (status if version >= (6, 15) else None)


def test_a_running_process_has_no_status() -> None:
    with subprocess.Popen(["sleep", "60"]) as process, pidfd_of(process.pid) as pidfd:
        assert not has_ended(pidfd)
        assert exit_status(process.pid, pidfd) is None
        process.send_signal(signal.SIGKILL)
