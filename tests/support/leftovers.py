"""After every test: no process, kernel handle, swap area, huge page or mount of its making may be left.

``--descriptors`` looks at every open descriptor, not only at the kinds that this library opens.
"""

import fcntl
import multiprocessing.resource_tracker
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.machine import machine_lock

_OURS = re.compile(r"anon_inode:\[(userfaultfd|pidfd|perf_event|io_uring)\]|/proc/\d+/(pagemap|maps|smaps|mem)$|pidfd:")
_HUGE = Path("/sys/kernel/mm/hugepages")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option named above."""
    parser.addoption("--descriptors", action="store_true", help="fail tests that leave any descriptor open")


@pytest.fixture(scope="session")
def machine_before(tmp_path_factory: pytest.TempPathFactory) -> frozenset[str]:
    """The machine as this run found it."""
    multiprocessing.resource_tracker.ensure_running()
    with machine_lock(fcntl.LOCK_SH):
        return _machine(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def nothing_left_behind(
    request: pytest.FixtureRequest, machine_before: frozenset[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Compare what there is before and after a test."""
    kinds = re.compile("") if request.config.getoption("--descriptors") else _OURS
    directory = tmp_path_factory.getbasetemp()
    children, handles, known = _children(), _handles(kinds), _machine(directory) | machine_before
    yield
    assert not _children() - children, "processes were left behind"
    assert not _handles(kinds) - handles, "descriptors were left open"
    if _machine(directory) - known:
        # Perhaps another run is at it: wait until it is done.
        with machine_lock(fcntl.LOCK_SH):
            assert not _machine(directory) - known, "the machine was left changed"


def _children() -> set[tuple[int, str]]:
    """Processes whose parent we are, running or not waited for, with their start times."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    found = set()
    for stat in (process / "stat" for process in Path("/proc").iterdir() if process.name.isdecimal()):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == os.getpid():
            found.add((int(stat.parent.name), fields[19]))
    # Python's own helper for shared memory lives as long as this process.
    helper = getattr(multiprocessing.resource_tracker._resource_tracker, "_pid", None)
    return {child for child in found if child[0] != helper}


def _handles(kinds: re.Pattern[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
        # Libraries may keep their own files open, such as the fonts of matplotlib.
        if kinds.match(target) and "/site-packages/" not in target:
            found[target] += 1
    return found


def _machine(directory: Path) -> frozenset[str]:
    """Swap areas, huge pages and mounts under the run's directory for temporary files, one line each."""
    swaps = [line.split()[0] for line in Path("/proc/swaps").read_text().splitlines()[1:]]
    huge = [f"{path} {path.read_text()}" for path in _HUGE.glob("*/nr_hugepages")]
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    temporary = [place for place in mounts if place.startswith(f"{directory}/")]
    return frozenset([*swaps, *huge, *temporary])
