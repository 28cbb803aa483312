"""Reading /proc/PID/stat, however its process is called."""

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pagewatch.linux.remote import procstat
from pagewatch.linux.remote.procstat import (
    ProcStat,
    child_ids,
    live_threads,
    parse_stat,
    read_stat,
    read_status,
    thread_ids,
)

_REST = " ".join(str(number) for number in range(20, 60))


def line(command: str, state: str = "S", parent: int = 7, flags: int = 0x400000, start: int = 123456) -> str:
    """A stat line with fields 1 to 22 as proc(5) numbers them, and more behind."""
    fields = [state, parent, 3, 4, 5, 6, flags, *range(10, 22), start]
    return f"4321 ({command}) " + " ".join(map(str, fields)) + " " + _REST + "\n"


@given(command=st.text(max_size=15), state=st.sampled_from("RSDTtZXI"), start=st.integers(0, 1 << 63))
def test_any_command_name_is_read_whole(command: str, state: str, start: int) -> None:
    stat = parse_stat(line(command, state=state, start=start))
    assert stat == ProcStat(command=command, state=state, parent=7, flags=0x400000, start_ticks=start)


def test_command_that_looks_like_a_stat_line_does_not_mislead() -> None:
    assert parse_stat(line(") Z 99 (", parent=5)).parent == 5


def test_only_zombies_and_the_vanishing_have_exited() -> None:
    assert [state for state in "RSDTtZXI" if parse_stat(line("a", state)).has_exited] == ["Z", "X"]


def test_kernel_thread_is_known_by_its_flag() -> None:
    assert parse_stat(line("kthreadd", flags=0x00208040)).is_kernel_thread
    assert not parse_stat(line("init", flags=0x400100)).is_kernel_thread


def test_own_stat_agrees_with_the_system() -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    assert stat.parent == os.getppid()
    assert read_stat(os.getpid(), os.getpid()) is not None
    started_s = float(Path("/proc/uptime").read_text().split()[0]) - stat.start_ticks / os.sysconf("SC_CLK_TCK")
    assert 0 <= started_s < 3600 * 24


def test_what_does_not_exist_is_none_or_empty() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert read_stat(gone.pid) is None
    assert read_status(gone.pid, gone.pid) == {}
    assert thread_ids(gone.pid) == []
    assert live_threads(gone.pid) == []
    assert child_ids(gone.pid) == []


def test_children_are_found_in_both_ways() -> None:
    children = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    try:
        expected = {child.pid for child in children}
        assert expected <= set(child_ids(os.getpid()))
        assert expected <= set(procstat._children_by_parent(os.getpid()))
        assert child_ids(children[0].pid) == []
    finally:
        for child in children:
            child.communicate()


def test_leader_comes_first() -> None:
    assert live_threads(os.getpid())[0][0] == os.getpid()
