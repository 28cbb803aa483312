"""Attaching to programs that run: whatever they are doing, they go on with it as if nothing had happened."""

import fcntl
import os
import platform
import re
import signal
import statistics
import struct
import time
from pathlib import Path

import pytest

from pagewatch.linux.remote.attach import attach
from support.needs import requires
from support.pace import fewer, longer, skip_if_slow
from support.patients import Patient, Ward, expected_checksum, wait_until

pytestmark = [pytest.mark.live, requires("userfaultfd")]
x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="a matter of x86-64 alone")

_UFFDIO_API, _UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
_API, _WP_ASYNC, _MODE_WP = 0xAA, 1 << 15, 2


def attach_and_let_go(patient: Patient, times: int = 5) -> None:
    """Attach again and again; each time nothing is left behind."""
    for _ in range(times):
        with attach(patient.pid) as attachment:
            assert Path(f"/proc/self/fd/{attachment.uffd_fd}").readlink() == Path("anon_inode:[userfaultfd]")
        assert patient.is_untouched()


# --- the descriptor


@requires("uffd_wp_async")
def test_descriptor_belongs_to_the_targets_memory(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient, attach(patient.pid) as attachment:
        api = bytearray(struct.pack("QQQ", _API, _WP_ASYNC, 0))
        fcntl.ioctl(attachment.uffd_fd, _UFFDIO_API, api)
        maps = Path(f"/proc/{patient.pid}/maps").read_text()
        start, end = (int(part, 16) for part in re.findall(r"(\w+)-(\w+) rw-p .*\[stack\]", maps)[0])
        register = bytearray(struct.pack("QQQQ", start, end - start, _MODE_WP, 0))
        fcntl.ioctl(attachment.uffd_fd, _UFFDIO_REGISTER, register)
        stack = Path(f"/proc/{patient.pid}/smaps").read_text().partition("[stack]")[2]
        assert " uw " in stack.partition("VmFlags:")[2].splitlines()[0] + " "
        attachment.close()
        stack = Path(f"/proc/{patient.pid}/smaps").read_text().partition("[stack]")[2]
        assert " uw " not in stack.partition("VmFlags:")[2].splitlines()[0] + " "
        assert patient.finish() == "1 0"


def test_descriptor_is_closed_on_exec_and_does_not_block(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient, attach(patient.pid) as attachment:
        assert not os.get_inheritable(attachment.uffd_fd)
        assert not os.get_blocking(attachment.uffd_fd)


def test_taken_descriptor_survives_the_attachment(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        with attach(patient.pid) as attachment:
            descriptor = attachment.take_uffd()
        assert attachment.uffd_fd == -1
        os.fstat(descriptor)
        os.close(descriptor)


def test_closing_leaves_no_descriptor_and_no_process(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        attach_and_let_go(patient)
        assert {entry.name for entry in Path("/proc/self/fd").iterdir()} == before
        assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == children


# --- what the thread was doing


@pytest.mark.parametrize("call", ["read", "recv", "semop", "epoll", "epoll_pwait", "sigtimedwait", "pause"])
def test_waiting_call_goes_on_waiting(ward: Ward, call: str) -> None:
    if platform.machine() != "x86_64" and call not in ("read", "pause"):
        pytest.skip("arm64 loses the first argument of a call that returned EINTR before a tracer can see it")
    with ward.asleep("waiting", call) as patient:
        before = patient.blocked_in()
        attach_and_let_go(patient)
        wait_until(lambda: patient.blocked_in() == before)
        if call in ("read", "epoll", "epoll_pwait"):
            assert patient.finish() == "1 0"
        elif call == "pause":
            patient.signal(signal.SIGUSR1)
            assert patient.finish() == "-1 4 1"
        elif call == "sigtimedwait":
            patient.signal(signal.SIGUSR1)
            assert patient.finish() == f"{signal.SIGUSR1.value} 0"


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        ("nanosleep", "0 0"),
        ("clock_nanosleep", "0 0"),
        ("poll", "0 0"),
        ("ppoll", "0 0"),
        ("futex", "-1 110"),
        pytest.param("int80", "0 0", marks=x86_only),
    ],
)
def test_timeout_keeps_what_was_left_of_it(ward: Ward, call: str, outcome: str) -> None:
    duration_ms = longer(1500)
    with ward.asleep("timed", call, str(duration_ms)) as patient:
        time.sleep(duration_ms / 4000)
        attach_and_let_go(patient, times=3)
        result, number, elapsed_ms = patient.finish().split()
        assert f"{result} {number}" == outcome
        # Begun anew after the pause, it would have taken a quarter more.
        assert duration_ms - 1 <= int(elapsed_ms) < 1.24 * duration_ms


def test_signal_mask_of_sigsuspend_holds(ward: Ward) -> None:
    with ward.asleep("suspended") as patient:
        attach_and_let_go(patient, times=2)
        patient.signal(signal.SIGUSR2)
        attach_and_let_go(patient)
        wait_until(lambda: patient.state() == "S")
        patient.signal(signal.SIGUSR1)
        assert patient.finish() == "12"


@pytest.mark.parametrize(("mode", "attaches"), [("spinning", 30), ("stormed", 200)])
def test_computation_comes_out_right(ward: Ward, mode: str, attaches: int) -> None:
    with ward(mode) as patient:
        attach_and_let_go(patient, fewer(attaches))
        checksum, steps, registers = patient.finish().split()
        assert registers == "held"
        assert int(checksum) == expected_checksum(int(steps))


@pytest.mark.parametrize(("how", "blocked"), [("ignored", 0), ("blocked", 1), ("handled", 0)])
def test_sigtrap_stays_as_the_program_set_it(ward: Ward, how: str, blocked: int) -> None:
    with ward("trapped", how) as patient:
        attach_and_let_go(patient, fewer(30))
        assert patient.finish() == f"kept {blocked} 0"


@x86_only
def test_program_that_single_steps_itself_counts_every_step(ward: Ward) -> None:
    with ward("stepping") as patient:
        attach_and_let_go(patient, fewer(30))
        assert patient.finish() == "stepped"


@x86_only
def test_restartable_sequence_is_aborted_not_forgotten(ward: Ward) -> None:
    for _ in range(fewer(10)):
        with ward("in_sequence") as patient:
            attach_and_let_go(patient, 1)
            patient.signal(signal.SIGUSR1)
            assert patient.finish(timeout_s=10) == "aborted"


def test_memory_and_registers_are_untouched(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        # The kernel notes the current CPU in the thread's memory; it stays the same if there is but one.
        os.sched_setaffinity(patient.pid, {min(os.sched_getaffinity(0))})
        attach_and_let_go(patient, 1)
        wait_until(lambda: patient.state() == "S")
        before = contents(patient), patient.blocked_in()
        attach_and_let_go(patient)
        wait_until(lambda: patient.state() == "S")
        assert (contents(patient), patient.blocked_in()) == before
        assert patient.finish() == "1 0"


def contents(patient: Patient) -> dict[str, bytes]:
    """Every mapping that the program can write, by its line in maps."""
    lines = Path(f"/proc/{patient.pid}/maps").read_text().splitlines()
    found = {}
    with Path(f"/proc/{patient.pid}/mem").open("rb", buffering=0) as memory:
        for line in lines:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if line.split()[1][1] == "w":
                memory.seek(start)
                found[line] = memory.read(end - start)
    assert any("[stack]" in line for line in found)
    return found


# --- processes in motion


def test_threads_that_come_and_go_do_not_disturb(ward: Ward) -> None:
    with ward("churning") as patient:
        attach_and_let_go(patient, fewer(30))
        assert patient.finish().endswith("threads")


@pytest.mark.parametrize("state", ["asleep", "running"])
def test_stop_is_short(ward: Ward, state: str) -> None:
    skip_if_slow()
    stops_ns = []
    with ward.asleep("waiting", "read") if state == "asleep" else ward("spinning") as patient:
        for _ in range(50):
            with attach(patient.pid) as attachment:
                assert sum(attachment.phases_ns.values()) == attachment.stopped_ns
                # Until a processor is free for it, a thread that is to stop is waiting for one anyway.
                stops_ns.append(attachment.stopped_ns - attachment.phases_ns["stop"])
    assert 10_000 < statistics.median(stops_ns) < 5_000_000


def test_uffd_of_a_dead_target_can_be_closed(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient, attach(patient.pid) as attachment:
        patient.signal(signal.SIGKILL)
        patient.popen.wait()
        assert not attachment.identity.alive()
