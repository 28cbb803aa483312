"""A tracker killed with -9 at random moments of attaching: its targets never notice.

PAGEWATCH_KILL_ROUNDS sets how many trackers are killed (20 in a usual run); PAGEWATCH_KILL_SEED replays one.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.needs import requires
from support.pace import fewer, longer
from support.patients import Patient, Ward, expected_checksum, wait_until

pytestmark = [pytest.mark.live, requires("userfaultfd"), pytest.mark.timeout(900)]

_ROUNDS = int(os.environ.get("PAGEWATCH_KILL_ROUNDS", "20"))
_SEED = int(os.environ.get("PAGEWATCH_KILL_SEED", str(random.randrange(1 << 32))))
_TRACKER = Path(__file__).parents[1] / "support" / "attaching.py"


def kill_a_tracker(patient: Patient, after_s: float) -> None:
    """Let a tracker attach again and again, and kill it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, _TRACKER, str(patient.pid), "1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as tracker:
        assert tracker.stdout is not None
        assert tracker.stdout.readline() == b"started\n"
        time.sleep(after_s)
        tracker.kill()
        tracker.wait()
        assert tracker.stdout.read() == b""


def test_targets_outlive_their_trackers_unharmed(ward: Ward) -> None:
    chance = random.Random(_SEED)
    with ward("stormed") as stormed, ward("spinning") as spinning, ward.asleep("waiting", "epoll") as asleep:
        patients = [stormed, spinning, asleep]
        for _ in range(fewer(_ROUNDS)):
            patient = chance.choice(patients)
            # The second attach begins about 50 ms after the first: this covers some whole ones and a broken one.
            kill_a_tracker(patient, chance.uniform(0, longer(200)) / 1000)
            wait_until(patient.is_untouched)
        assert asleep.finish() == "1 0", f"seed {_SEED}"
        for patient in (stormed, spinning):
            checksum, steps, registers = patient.finish().split()
            assert registers == "held", f"seed {_SEED}"
            assert int(checksum) == expected_checksum(int(steps)), f"seed {_SEED}"
