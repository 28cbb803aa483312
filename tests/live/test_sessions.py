"""Live processes, as the recorder sees them."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewatch.linux.maps import read_maps
from pagewatch.linux.remote.launch import launch
from pagewatch.linux.remote.procstat import child_ids, thread_ids
from pagewatch.record import Ending
from pagewatch.sessions import LiveProcesses, command_line
from pagewatch.vocab.errors import CannotAttach, TargetGone
from support.commands import start, wait_until
from support.needs import requires
from support.patients import Ward

pytestmark = requires("uffd_wp_async", "pagemap_scan")

OBEYING = """
import os, sys
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
"""


@pytest.fixture
def target() -> Iterator[subprocess.Popen[str]]:
    """A program that runs each line of its input."""
    with start([sys.executable, "-c", OBEYING], stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def tell(target: subprocess.Popen[str], line: str, *, answers: bool = True) -> None:
    assert target.stdin is not None
    assert target.stdout is not None
    target.stdin.write(line + "\n")
    target.stdin.flush()
    if answers:
        assert target.stdout.readline() == "done\n"


def test_a_session_knows_its_process(target: subprocess.Popen[str]) -> None:
    with LiveProcesses() as processes:
        session = processes.open(target.pid)
        assert (session.pid, session.parent_pid) == (target.pid, os.getpid())
        assert session.name == Path(f"/proc/{target.pid}/comm").read_text().strip()
        assert session.method == "uffd-async"
        tell(target, "memory = bytearray(1 << 20)")
        assert session.collect().regions.pages >= 1
        assert any(mapping.name == "[stack]" for mapping in session.mappings())
        session.close()


def test_the_end_of_somebody_elses_child_is_told(target: subprocess.Popen[str]) -> None:
    with LiveProcesses() as processes:
        session = processes.open(target.pid)
        assert processes.ending(target.pid) is None
        tell(target, "os._exit(9)", answers=False)
        began = time.monotonic()
        processes.wait(time.monotonic_ns() + 30_000_000_000)
        assert time.monotonic() - began < 20
        assert processes.fate(target.pid) == Ending(9)
        with pytest.raises(TargetGone):
            session.collect()
        session.close()
        # What has ended wakes nobody any more.
        began = time.monotonic()
        processes.wait(time.monotonic_ns() + 200_000_000)
        assert time.monotonic() - began >= 0.2


def test_an_exec_is_no_ending_and_the_new_program_can_be_opened(target: subprocess.Popen[str]) -> None:
    with LiveProcesses() as processes:
        session = processes.open(target.pid)
        tell(target, "os.execvp('sleep', ['sleep', '60'])", answers=False)
        wait_until(lambda: Path(f"/proc/{target.pid}/comm").read_text() == "sleep\n", "the exec")
        with pytest.raises(TargetGone):
            session.collect()
        assert processes.fate(target.pid) is None
        session.close()
        again = processes.open(target.pid)
        assert again.name == "sleep"
        again.collect()
        again.close()


def test_children_are_found(target: subprocess.Popen[str]) -> None:
    with LiveProcesses() as processes:
        assert list(processes.children(target.pid)) == []
        tell(target, "import subprocess; child = subprocess.Popen(['sleep', '60'])")
        (child,) = processes.children(target.pid)
        # Between an exec and its end the new arguments are not there yet.
        wait_until(lambda: command_line(child) == ("sleep", "60"), "its arguments")
        tell(target, "child.kill(); child.wait()")


def test_a_child_of_vfork_counts_from_when_it_has_memory_of_its_own(ward: Ward) -> None:
    with ward("spawning", shutil.which("sleep") or "") as patient, LiveProcesses() as processes:
        wait_until(lambda: patient.state() == "D", "the parent to wait for its child")
        (child,) = child_ids(patient.pid)
        assert list(processes.children(patient.pid)) == []
        assert patient.popen.stdin is not None
        patient.popen.stdin.write(b"x")
        patient.popen.stdin.flush()
        wait_until(lambda: list(processes.children(patient.pid)) == [child], "the child to load its program")
        session = processes.open(child)
        session.collect()
        assert not {m.start for m in session.mappings()} & {m.start for m in read_maps(patient.pid) if m.writable}
        os.kill(child, signal.SIGKILL)
        session.close()
        assert patient.finish() == "done"


def test_a_started_program_reports_its_own_exit_code() -> None:
    with launch([sys.executable, "-c", "raise SystemExit(6)"]) as launched, LiveProcesses() as processes:
        session = processes.adopt(launched)
        launched.release()
        processes.wait(time.monotonic_ns() + 30_000_000_000)
        assert processes.fate(launched.pid) == Ending(6)
        session.close()
        assert launched.wait() == 6


def test_a_process_that_a_debugger_keeps_from_ending_is_not_waited_for(
    target: subprocess.Popen[str], ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagewatch.sessions._PATIENCE_NS", 200_000_000)
    tell(target, "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()")
    second = max(thread_ids(target.pid))
    with ward("tracing", str(second)) as tracer, LiveProcesses() as processes:
        session = processes.open(target.pid)
        target.kill()
        with pytest.raises(TargetGone):
            wait_until(lambda: session.collect() is None, "its memory to be gone")
        assert processes.fate(target.pid) == Ending(None)
        session.close()
        tracer.finish()
    target.wait()


def test_the_end_of_a_process_that_was_never_there_is_known_too() -> None:
    with LiveProcesses() as processes:
        with pytest.raises(TargetGone, match="does not exist"):
            processes.open(2**22 - 1)
        assert processes.fate(2**22 - 1) == Ending(None)


def n_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_process_that_cannot_be_opened_costs_no_descriptor(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient, ward("tracing", str(patient.pid)) as tracer:
        with LiveProcesses() as processes:
            before = n_descriptors()
            for _ in range(3):
                with pytest.raises(CannotAttach, match="is traced by"):
                    processes.open(patient.pid)
            assert n_descriptors() == before
        tracer.finish()
        assert patient.finish() == "1 0"


def test_a_process_is_refused_while_there_is_room_for_all_else(target: subprocess.Popen[str]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with LiveProcesses() as processes:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (n_descriptors() + 10, hard))
            with pytest.raises(CannotAttach, match=r"descriptors.*ulimit -n"):
                processes.open(target.pid)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        processes.open(target.pid).close()


def test_a_wake_descriptor_ends_a_wait_and_is_emptied(target: subprocess.Popen[str]) -> None:
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        with LiveProcesses(wake_fd=reader) as processes:
            os.write(writer, bytes([signal.SIGINT]))
            began = time.monotonic()
            processes.wait(time.monotonic_ns() + 30_000_000_000)
            assert time.monotonic() - began < 20
            with pytest.raises(BlockingIOError):
                os.read(reader, 1)
    finally:
        os.close(reader)
        os.close(writer)


def test_arguments_that_are_no_text_and_missing_processes() -> None:
    with subprocess.Popen([b"sleep", b"60", b"\xff"], stderr=subprocess.DEVNULL) as process:
        assert command_line(process.pid)[-1] in ("\udcff", "sleep")
        process.kill()
    with pytest.raises(TargetGone):
        command_line(int(Path("/proc/sys/kernel/pid_max").read_text()))
