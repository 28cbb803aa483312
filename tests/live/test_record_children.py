"""``pagewatch record`` and the children of the program."""

import resource
import sys
from pathlib import Path

import pytest

from pagewatch.trace import Trace
from pagewatch.vocab.blindspots import BlindReason
from support.commands import pagewatch
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

FORKING = """
import os, mmap, sys, time
memory = mmap.mmap(-1, 128 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[0] = 1
pid = os.fork()
for step in range(80):
    memory[(1 + step) * mmap.PAGESIZE] = 1
    time.sleep(0.05)
if pid == 0:
    os._exit(6)
print(pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_forked_children_are_followed(tmp_path: Path) -> None:
    done = pagewatch("record", "-o", tmp_path / "r", "--hz", 20, "--follow", "--", sys.executable, "-c", FORKING)
    assert done.returncode == 0, done.stderr
    child, status = map(int, done.stdout.split())
    assert status == 6
    trace = Trace.open(tmp_path / "r")
    parent_row, child_row = trace.processes
    assert (child_row.pid, child_row.parent_pid, child_row.exit_status) == (child, parent_row.pid, 6)
    for pid in (parent_row.pid, child):
        written = [epoch for epoch in trace.epochs() if epoch.pid == pid and epoch.regions.pages]
        assert len(written) > 10
    first = next(epoch for epoch in trace.epochs() if epoch.pid == child)
    assert BlindReason.NOT_FOLLOWED in {spot.reason for spot in first.blind_spots}


MANY_CHILDREN = """
import os, resource, time
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
for _ in range(12):
    if not os.fork():
        x = bytearray(1 << 20)
        for n in range(40):
            x[n << 12] = 1
            time.sleep(0.05)
        os._exit(0)
for _ in range(12):
    os.wait()
"""


@pytest.mark.parametrize(("soft", "hard"), [(64, 4096), (64, 64)])
def test_children_are_followed_as_far_as_descriptors_last(tmp_path: Path, soft: int, hard: int) -> None:
    done = pagewatch(
        *("record", "-o", tmp_path / "r", "--hz", 20, "--follow", "--", sys.executable, "-c", MANY_CHILDREN),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(soft), str(hard)]
    trace = Trace.open(tmp_path / "r")
    assert trace.ended_reason.endswith("exited with status 0")
    n_refused = sum("file descriptors" in note.text and "ulimit -n" in note.text for note in trace.notes)
    assert (n_refused > 0) == (hard == soft)
    n_ended_before = sum("ended before it could be attached" in note.text for note in trace.notes)
    assert len(trace.processes) + n_refused + n_ended_before == 13
    assert len(trace.processes) > 2


def test_children_that_are_not_followed_are_mentioned(tmp_path: Path) -> None:
    done = pagewatch("record", "-o", tmp_path / "r", "--", sys.executable, "-c", FORKING)
    assert done.returncode == 0, done.stderr
    trace = Trace.open(tmp_path / "r")
    assert len(trace.processes) == 1
    assert sum("--follow" in note.text for note in trace.notes) == 1
