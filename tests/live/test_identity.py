"""A process is told apart from whoever gets its pid later."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pagewatch.linux.remote.identity import Identity
from pagewatch.vocab.errors import InvalidArgument, TargetGone
from support.patients import Ward, fields_of, wait_until

pytestmark = pytest.mark.live
_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def test_start_time_is_the_kernels(ward: Ward) -> None:
    with ward("waiting", "read") as patient, Identity(patient.pid) as identity:
        after_the_name = Path(f"/proc/{patient.pid}/stat").read_text().rpartition(")")[2].split()
        assert identity.start_ticks == int(after_the_name[19])
        assert Path(f"/proc/self/fdinfo/{identity.pidfd}").read_text().split("\nPid:")[1].split()[0] == str(patient.pid)


def test_lives_until_its_process_exits(ward: Ward) -> None:
    with ward("waiting", "read") as patient, Identity(patient.pid) as identity:
        assert identity.alive()
        identity.check()
        patient.signal(signal.SIGKILL)
        wait_until(lambda: not identity.alive())
        with pytest.raises(TargetGone) as caught:
            identity.check()
        assert caught.value.pid == patient.pid
        assert identity.threads() == identity.children() == []


def test_lives_as_long_as_any_thread(ward: Ward) -> None:
    with ward("dead_leader") as patient, Identity(patient.pid) as identity:
        wait_until(lambda: fields_of(Path(f"/proc/{patient.pid}/task/{patient.pid}/status"))["State"][0] == "Z")
        assert identity.alive()
        threads = identity.threads()
        assert patient.pid not in threads
        assert len(threads) == 1
        with Identity(patient.pid) as again:
            assert again.start_ticks == identity.start_ticks
        assert patient.finish() == "1 0"


def test_children_are_found(ward: Ward) -> None:
    script = "sleep 60 & sleep 60 & echo ready; read x; kill %1 %2"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        with Identity(shell.pid) as identity:
            wait_until(lambda: len(identity.children()) == 2)
            parents = {fields_of(Path(f"/proc/{child}/status"))["PPid"] for child in identity.children()}
            assert parents == {str(shell.pid)}
        shell.communicate(b"\n")


@pytest.mark.skipif(not os.access(_LAST_PID, os.W_OK), reason=f"needs to set {_LAST_PID} (run as root)")
def test_successor_with_the_same_pid_is_somebody_else() -> None:
    first = subprocess.Popen(["sleep", "60"])
    with Identity(first.pid) as identity:
        first.kill()
        first.wait()
        time.sleep(2 / os.sysconf("SC_CLK_TCK"))
        with successor(first.pid):
            assert not identity.alive()
            with pytest.raises(TargetGone):
                identity.check()
            with pytest.raises(TargetGone, match="another one has its pid now"):
                Identity(first.pid, start_ticks=identity.start_ticks)
            with Identity(first.pid) as other:
                assert other.start_ticks != identity.start_ticks
                assert other.alive()


def successor(pid: int) -> subprocess.Popen[bytes]:
    """A process with just this pid; others may be quicker to take it, so it is tried again."""
    for _ in range(50):
        _LAST_PID.write_text(str(pid - 1))
        process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        if process.pid == pid:
            return process
        process.communicate()
    pytest.skip(f"pid {pid} was taken by others each time")


def test_same_process_is_recognised(ward: Ward) -> None:
    with ward("waiting", "read") as patient, Identity(patient.pid) as identity:
        again = Identity(patient.pid, start_ticks=identity.start_ticks)
        assert (again.pid, again.start_ticks) == (identity.pid, identity.start_ticks)
        again.close()


def test_closing_twice_is_no_error(ward: Ward) -> None:
    with ward("waiting", "read") as patient, Path(os.devnull).open() as somebody_elses:
        identity = Identity(patient.pid)
        descriptor = identity.pidfd
        link = Path(f"/proc/self/fd/{descriptor}")
        assert link.is_symlink()
        identity.close()
        assert not link.is_symlink()
        os.dup2(somebody_elses.fileno(), descriptor)
        identity.close()
        assert link.readlink() == Path(os.devnull)
        os.close(descriptor)


@pytest.mark.parametrize("pid", [0, -5])
def test_pid_must_be_positive(pid: int) -> None:
    with pytest.raises(InvalidArgument):
        Identity(pid)
