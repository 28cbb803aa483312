"""A tracker killed with -9 at random moments of attaching, arming and collecting leaves no trace in its target.

PAGEWATCH_KILL_ROUNDS sets how many trackers are killed (20 in a usual run); PAGEWATCH_KILL_SEED replays one.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from soak import Log, compile_writer, wait_until_ready

from pagewatch.linux.maps import read_maps
from pagewatch.vocab.addresses import PAGE_SIZE
from support.needs import requires
from support.patients import descriptors_of
from support.target_world import target_world

pytestmark = [
    requires("uffd_wp_async", "pagemap_scan", "attach"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: apt-get install gcc"),
    pytest.mark.timeout(900),
]

_ROUNDS = int(os.environ.get("PAGEWATCH_KILL_ROUNDS", "20"))
_SEED = int(os.environ.get("PAGEWATCH_KILL_SEED", str(random.randrange(1 << 32))))
_TRACKER = Path(__file__).parents[1] / "support" / "collecting.py"
_PM_UFFD_WP = 57


def _kill_a_tracker(pid: int, after_s: float) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, _TRACKER, str(pid)], stdout=subprocess.PIPE, env=environment) as tracker:
        assert tracker.stdout is not None
        assert tracker.stdout.readline() == b"started\n"
        time.sleep(after_s)
        assert tracker.poll() is None, "the tracker ended by itself"
        tracker.kill()


def _traces(pid: int, start: int, end: int) -> str:
    """What a tracker left behind: registrations, protection bits, descriptors, a tracer. Empty if nothing."""
    found = [f"registered: {m.label}" for m in read_maps(pid) if m.flags and "uw" in m.flags]
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
        pagemap.seek(start // PAGE_SIZE * 8)
        words = pagemap.read((end - start) // PAGE_SIZE * 8)
    protected = sum(words[i + 7] >> (_PM_UFFD_WP - 56) & 1 for i in range(0, len(words), 8))
    found += [f"{protected} protected pages"] if protected else []
    found += ["a userfaultfd"] if "anon_inode:[userfaultfd]" in descriptors_of(pid) else []
    status = Path(f"/proc/{pid}/status").read_text()
    found += ["a tracer"] if "TracerPid:\t0\n" not in status else []
    return ", ".join(found)


def _until_untouched(pid: int, start: int, end: int) -> str:
    """A surgeon that outlives its tracker needs a moment."""
    deadline = time.monotonic() + 20
    while (traces := _traces(pid, start, end)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return traces


def test_the_check_for_traces_sees_a_tracker_at_work():
    with target_world() as world:
        start = world.map(16)
        end = start + 16 * PAGE_SIZE
        assert _traces(world.popen.pid, start, end) == ""
        with world.track([(start, end)]):
            assert "16 protected pages" in _traces(world.popen.pid, start, end)
        assert _traces(world.popen.pid, start, end) == ""


def test_a_killed_tracker_leaves_no_protection_no_registration_and_a_right_result(tmp_path):
    chance = random.Random(_SEED)
    log = Log()
    arguments = [compile_writer(tmp_path / "writer", []), str(log.fd), "4096", "3", "1"]
    with subprocess.Popen(arguments, pass_fds=[log.fd], stdin=subprocess.PIPE) as target:
        assert target.stdin is not None
        wait_until_ready(log)
        target.stdin.write(b"g")
        target.stdin.flush()
        start = log.value("area")
        end = start + 4096 * PAGE_SIZE
        for turn in range(_ROUNDS):
            _kill_a_tracker(target.pid, chance.uniform(0, 0.6))
            assert _until_untouched(target.pid, start, end) == "", f"round {turn} of seed {_SEED}"
        target.stdin.close()
        assert target.wait(60) == 0, f"seed {_SEED}: a store did not stay where it was made"
    assert log.value("writes") > 1000
    log.close()
