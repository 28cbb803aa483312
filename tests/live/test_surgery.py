"""What happens to a target while it lies on the table: signals, stops and death between two steps of the operation."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pagewatch.linux.remote.admission import Patient as Seized
from pagewatch.linux.remote.admission import stop_one_thread
from pagewatch.linux.remote.surgery import take_userfaultfd
from pagewatch.linux.remote.tracee import ThreadExited
from pagewatch.vocab.errors import TargetGone
from support.needs import requires
from support.pace import longer
from support.patients import Patient, Ward, wait_until

pytestmark = [pytest.mark.live, requires("userfaultfd")]

_SECOND_NS = 1_000_000_000


@contextmanager
def stopped(patient: Patient) -> Iterator[Seized]:
    """One thread stopped by this very process, which thus plays the surgeon; SIGCHLD is held back as it does."""
    pidfd = os.pidfd_open(patient.pid)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    try:
        yield stop_one_thread(patient.pid, pidfd, _SECOND_NS)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        os.close(pidfd)


def operate(seized: Seized) -> None:
    """Take a userfaultfd and let the thread go."""
    os.close(take_userfaultfd(seized, None, time.monotonic_ns() + _SECOND_NS))
    # This process does not exit, so it cannot let go of a thread that runs: PTRACE_DETACH may interrupt its call.
    seized.thread.detach()


def test_signal_during_the_operation_ends_a_pause(ward: Ward) -> None:
    with ward.asleep("waiting", "pause") as patient:
        with stopped(patient) as seized:
            patient.signal(signal.SIGUSR1)
            operate(seized)
        assert patient.finish() == "-1 4 1"


def test_signal_that_a_suspended_program_blocks_waits_for_its_turn(ward: Ward) -> None:
    with ward.asleep("suspended") as patient:
        with stopped(patient) as seized:
            patient.signal(signal.SIGUSR2)
            operate(seized)
        time.sleep(0.1)
        assert patient.state() == "S"
        patient.signal(signal.SIGUSR1)
        assert patient.finish() == "12"


def test_signal_during_the_operation_does_not_run_its_handler_early(ward: Ward) -> None:
    with ward.asleep("suspended") as patient:
        with stopped(patient) as seized:
            patient.signal(signal.SIGUSR2)
            patient.signal(signal.SIGUSR1)
            operate(seized)
        assert patient.finish() == "12"


def test_program_stopped_during_the_operation_stays_stopped(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        with stopped(patient) as seized:
            patient.signal(signal.SIGSTOP)
            operate(seized)
        wait_until(lambda: patient.state() == "T")
        patient.signal(signal.SIGCONT)
        assert patient.finish() == "1 0"


def test_program_continued_during_the_operation_continues(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        patient.signal(signal.SIGSTOP)
        wait_until(lambda: patient.state() == "T")
        with stopped(patient) as seized:
            patient.signal(signal.SIGCONT)
            operate(seized)
        wait_until(lambda: patient.state() == "S")
        assert patient.finish() == "1 0"


def test_program_killed_during_the_operation_is_reported_gone(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient, stopped(patient) as seized:
        patient.signal(signal.SIGKILL)
        with pytest.raises(ThreadExited):
            operate(seized)
        patient.popen.wait()
        with pytest.raises(TargetGone):
            stop_one_thread(patient.pid, seized.pidfd, _SECOND_NS)


def test_signals_blocked_for_the_operation_are_free_again(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        mask = status_mask(patient)
        with stopped(patient) as seized:
            operate(seized)
        wait_until(lambda: patient.state() == "S")
        assert status_mask(patient) == mask


def status_mask(patient: Patient) -> str:
    lines = Path(f"/proc/{patient.pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("SigBlk:"))


def test_thread_that_was_not_operated_on_runs_on(ward: Ward) -> None:
    duration_ms = longer(1500)
    with ward.asleep("timed", "nanosleep", str(duration_ms)) as patient:
        with stopped(patient) as seized:
            seized.release()
        result, number, elapsed_ms = patient.finish().split()
        assert (result, number) == ("0", "0")
        assert duration_ms - 1 <= int(elapsed_ms) < 1.24 * duration_ms
