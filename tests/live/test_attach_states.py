"""Attaching to processes in unusual states: each works, or is refused with its own clear error and left as it was."""

import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pagewatch.linux.remote.admission import Patient as Seized
from pagewatch.linux.remote.attach import attach
from pagewatch.linux.remote.procstat import child_ids
from pagewatch.vocab.errors import CannotAttach, InvalidArgument, TargetGone
from support.needs import requires
from support.pace import fewer, longer
from support.patients import Patient, Ward, fields_of, wait_until

pytestmark = [pytest.mark.live, requires("userfaultfd")]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root (run as root)")

_SUPPORT = Path(__file__).parents[1] / "support"
_CAPLESS = (sys.executable, str(_SUPPORT / "capless.py"))


def attach_without_capabilities(pid: int) -> str:
    """What a tracker says that has the same user as root, but no capability."""
    return attach_from([*_CAPLESS, sys.executable], pid)


def attach_from(interpreter: list[str], pid: int) -> str:
    """What a tracker says that is run by this command."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [*interpreter, _SUPPORT / "attaching.py", str(pid)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    return run.stdout.splitlines()[-1]


# --- stopped, traced, unable to stop


def test_stopped_process_stays_stopped_and_continues_later(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        patient.signal(signal.SIGSTOP)
        wait_until(lambda: patient.state() == "T")
        for _ in range(3):
            with attach(patient.pid):
                pass
            assert patient.is_untouched()
            wait_until(lambda: patient.state() == "T")
        patient.signal(signal.SIGCONT)
        wait_until(lambda: patient.state() == "S")
        assert patient.finish() == "1 0"


def test_stopped_process_does_not_go_on_with_its_call(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        patient.signal(signal.SIGSTOP)
        wait_until(lambda: patient.state() == "T")
        assert patient.popen.stdin is not None
        os.write(patient.popen.stdin.fileno(), b"x")
        with attach(patient.pid):
            pass
        wait_until(lambda: patient.state() == "T")
        unread = fcntl.ioctl(patient.popen.stdin, termios.FIONREAD, bytes(4))
        assert int.from_bytes(unread, sys.byteorder) == 1
        patient.signal(signal.SIGCONT)
        assert patient.finish(feed=b"") == "1 0"


def test_stopped_process_sleeps_out_its_time_when_continued(ward: Ward) -> None:
    duration_ms = longer(3000)
    with ward.asleep("timed", "nanosleep", str(duration_ms)) as patient:
        patient.signal(signal.SIGSTOP)
        wait_until(lambda: patient.state() == "T")
        with attach(patient.pid):
            pass
        patient.signal(signal.SIGCONT)
        result, number, elapsed_ms = patient.finish().split()
        assert (result, number) == ("0", "0")
        assert duration_ms - 1 <= int(elapsed_ms) < 1.24 * duration_ms


def test_tracer_is_named(ward: Ward) -> None:
    with ward.asleep("waiting", "read") as patient:
        with ward("tracing", str(patient.pid)) as tracer:
            with pytest.raises(CannotAttach, match=rf"traced by process {tracer.pid} \(patient\)") as caught:
                attach(patient.pid)
            assert caught.value.pid == patient.pid
            assert patient.tracers() == {tracer.pid}
            tracer.finish()
        with attach(patient.pid):
            pass
        assert patient.finish() == "1 0"


def test_parent_in_vfork_cannot_be_stopped_and_is_left_alone(ward: Ward) -> None:
    with ward("vforking", "leader") as patient:
        wait_until(lambda: patient.state() == "D")
        with pytest.raises(CannotAttach, match=r"none of its threads stopped within 0.2 s .1 of 1 in uninterruptible"):
            attach(patient.pid, timeout_s=0.2)
        assert patient.is_untouched()
        assert patient.finish() == "done"


def test_a_child_of_vfork_is_refused_until_it_has_memory_of_its_own(ward: Ward) -> None:
    with ward("spawning", shutil.which("sleep") or "") as patient:
        wait_until(lambda: patient.state() == "D")
        (child,) = child_ids(patient.pid)
        with pytest.raises(CannotAttach, match=rf"{child}: it runs in the memory of its parent, process {patient.pid}"):
            attach(child)
        assert patient.popen.stdin is not None
        patient.popen.stdin.write(b"x")
        patient.popen.stdin.flush()
        wait_until(lambda: patient.state() == "S")
        with attach(child) as attachment:
            assert attachment.tid == child
        os.kill(child, signal.SIGKILL)
        assert patient.finish() == "done"


def test_another_thread_is_taken_while_one_cannot_be_stopped(ward: Ward) -> None:
    with ward("vforking", "thread") as patient:
        wait_until(lambda: "D" in states(patient).values())
        with attach(patient.pid) as attachment:
            assert states(patient)[attachment.tid] == "S"
        assert patient.finish() == "1 0"


def states(patient: Patient) -> dict[int, str]:
    """The state of every thread."""
    tasks = Path(f"/proc/{patient.pid}/task").iterdir()
    return {int(task.name): fields_of(task / "status")["State"][0] for task in tasks}


@contextmanager
def control_group(root: Path, name: str) -> Iterator[Path]:
    """A control group of this test; whoever is left in it is moved out."""
    group = root / f"pagewatch-test-{os.getpid()}-{name}"
    group.mkdir()
    try:
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (root / "cgroup.procs").write_text(pid)
        group.rmdir()


def cgroup_root(kind: str, option: str) -> Path:
    """Where a control group hierarchy is mounted; skips the test if it is not."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, filesystem, options, *_ = line.split()
        if filesystem == kind and option in options.split(",") and os.access(place, os.W_OK):
            return Path(place)
    pytest.skip(f"needs a writable {kind} hierarchy with {option} (mount one, as root)")


@needs_root
@pytest.mark.parametrize(
    ("kind", "option", "switch"),
    [("cgroup2", "rw", ("cgroup.freeze", "1", "0")), ("cgroup", "freezer", ("freezer.state", "FROZEN", "THAWED"))],
    ids=["v2", "v1"],
)
def test_frozen_process_is_refused_and_thaws_unharmed(
    ward: Ward, kind: str, option: str, switch: tuple[str, str, str]
) -> None:
    name, frozen, thawed = switch
    with control_group(cgroup_root(kind, option), "frozen") as group, ward.asleep("waiting", "read") as patient:
        (group / "cgroup.procs").write_text(str(patient.pid))
        (group / name).write_text(frozen)
        try:
            time.sleep(0.1)
            with pytest.raises(CannotAttach, match="frozen"):
                attach(patient.pid, timeout_s=0.3)
            assert patient.is_untouched()
        finally:
            (group / name).write_text(thawed)
        with attach(patient.pid):
            pass
        assert patient.finish() == "1 0"


# --- programs that cannot be given a system call


@needs_root
@pytest.mark.parametrize("how", ["filter", "strict"])
def test_seccomp_is_suspended_and_in_force_again(ward: Ward, how: str) -> None:
    with ward.asleep("filtered", how) as patient:
        mode = fields_of(Path(f"/proc/{patient.pid}/status"))["Seccomp"]
        assert mode == {"strict": "1", "filter": "2"}[how]
        for _ in range(3):
            with attach(patient.pid):
                pass
        assert fields_of(Path(f"/proc/{patient.pid}/status"))["Seccomp"] == mode
        assert patient.is_untouched()
        assert patient.finish() == "1 0"


@needs_root
@pytest.mark.parametrize("how", ["filter", "strict"])
def test_seccomp_that_may_not_be_suspended_is_refused(ward: Ward, how: str) -> None:
    with Patient([*_CAPLESS, str(ward.program), "filtered", how]) as patient:
        wait_until(lambda: patient.state() == "S")
        before = times_asleep(patient)
        said = attach_without_capabilities(patient.pid)
        assert times_asleep(patient) == before
        assert said.startswith(f"CannotAttach: cannot attach to process {patient.pid}: it runs under a seccomp filter")
        assert "SYS_ADMIN" in said
        assert patient.is_untouched()
        assert patient.finish() == "1 0"


@needs_root
def test_seccomp_is_in_force_until_the_thread_has_stopped(ward: Ward) -> None:
    with ward.asleep("filtered", "tempted") as patient:
        pidfd = os.pidfd_open(patient.pid)
        try:
            Seized(patient.pid, patient.pid, pidfd)
            said, _ = patient.popen.communicate(b"x", timeout=30)
        finally:
            os.close(pidfd)
        assert (patient.popen.returncode, said) == (-signal.SIGSYS, b"")


@needs_root
@pytest.mark.skipif(shutil.which("nsenter") is None, reason="needs unshare and nsenter (apt-get install util-linux)")
def test_seccomp_that_root_of_a_user_namespace_may_not_suspend_is_refused(ward: Ward) -> None:
    try:
        patient = Patient(["unshare", "--user", "--map-root-user", str(ward.program), "filtered", "filter"])
    except RuntimeError:
        pytest.skip("needs user namespaces (sysctl user.max_user_namespaces)")
    with patient:
        wait_until(lambda: patient.state() == "S")
        inside = ["nsenter", "--user", "--preserve-credentials", "--target", str(patient.pid), sys.executable]
        assert "runs under a seccomp filter" in attach_from(inside, patient.pid)
        assert patient.is_untouched()
        assert patient.finish() == "1 0"


@needs_root
def test_process_of_ones_own_needs_no_capability(ward: Ward) -> None:
    with Patient([*_CAPLESS, str(ward.program), "waiting", "read"]) as patient:
        wait_until(lambda: patient.state() == "S")
        assert attach_without_capabilities(patient.pid) == "attached"
        assert patient.finish() == "1 0"


def times_asleep(patient: Patient) -> str:
    """How often it went to sleep: once more whenever something disturbed it."""
    return fields_of(Path(f"/proc/{patient.pid}/status"))["voluntary_ctxt_switches"]


def test_program_that_dispatches_its_own_system_calls_is_refused(ward: Ward) -> None:
    try:
        patient = ward.asleep("dispatching")
    except RuntimeError:
        pytest.skip("needs syscall user dispatch (x86-64, Linux 5.11)")
    with patient:
        with pytest.raises(CannotAttach, match="syscall user dispatch"):
            attach(patient.pid)
        assert patient.is_untouched()
        assert patient.finish() == "1 0"


_SLEEPER_32 = """
    .globl _start
    _start: mov $4, %eax; mov $1, %ebx; mov $text, %ecx; mov $6, %edx; int $0x80   # write(1, "ready\\n")
            mov $3, %eax; mov $0, %ebx; mov $text, %ecx; mov $1, %edx; int $0x80   # read(0)
            mov %eax, %ebx; dec %ebx; mov $1, %eax; int $0x80                      # exit(read - 1)
    .data
    text:   .ascii "ready\\n"
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs a processor that runs i386 programs")
def test_32_bit_program_is_refused(tmp_path: Path) -> None:
    if not (shutil.which("as") and shutil.which("ld")):
        pytest.skip("needs binutils (apt-get install binutils)")
    (tmp_path / "sleeper.s").write_text(_SLEEPER_32)
    subprocess.run(["as", "--32", "-o", tmp_path / "sleeper.o", tmp_path / "sleeper.s"], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-o", tmp_path / "sleeper", tmp_path / "sleeper.o"], check=True)
    try:
        patient = Patient([str(tmp_path / "sleeper")])
    except OSError:
        pytest.skip("needs a kernel that runs i386 programs (CONFIG_IA32_EMULATION)")
    with patient:
        wait_until(lambda: patient.state() == "S")
        before = times_asleep(patient)
        with pytest.raises(CannotAttach, match="32-bit"):
            attach(patient.pid)
        assert times_asleep(patient) == before
        assert patient.is_untouched()
        patient.finish()


def test_program_without_a_free_descriptor_is_refused_in_words(ward: Ward) -> None:
    with ward.asleep("no_room") as patient:
        with pytest.raises(CannotAttach, match=r"no free file descriptor .*--nofile"):
            attach(patient.pid)
        assert patient.is_untouched()
        assert patient.finish() == "1 0"


# --- whose it is, and whether it is at all


@needs_root
def test_other_users_process_is_not_permitted(ward: Ward) -> None:
    with ward.asleep("nobody") as patient:
        said = attach_without_capabilities(patient.pid)
        assert said.startswith(f"NotPermitted: process {patient.pid} may not be traced (root in a container needs")
        with attach(patient.pid):
            pass
        assert patient.finish() == "1 0"


def test_process_whose_leader_has_exited(ward: Ward) -> None:
    with ward("dead_leader") as patient:
        wait_until(lambda: states(patient)[patient.pid] == "Z")
        with attach(patient.pid) as attachment:
            assert attachment.tid != patient.pid
            assert Path(f"/proc/self/fd/{attachment.uffd_fd}").readlink() == Path("anon_inode:[userfaultfd]")
        assert not patient.tracers()
        assert patient.finish() == "1 0"


def test_program_that_execs_all_the_time_goes_on(ward: Ward) -> None:
    attached = 0
    with ward("executing", "0") as patient:
        for _ in range(fewer(60)):
            try:
                with attach(patient.pid):
                    attached += 1
            except (CannotAttach, TargetGone):
                # The exec came in the middle of it, and with it the end of the thread.
                continue
        assert int(patient.finish().split()[0]) > 0
    assert attached > 0


def test_kernel_thread_is_refused() -> None:
    threads = [int(each.parent.name) for each in Path("/proc").glob("[0-9]*/maps") if is_kernel_thread(each.parent)]
    if not threads:
        pytest.skip("needs a pid namespace that shows kernel threads")
    with pytest.raises(CannotAttach, match="kernel thread"):
        attach(threads[0])


def is_kernel_thread(directory: Path) -> bool:
    try:
        return (
            fields_of(directory / "status").get("Kthread") == "1"
            or not (directory / "cmdline").read_bytes() + (directory / "maps").read_bytes()
        )
    except OSError:
        return False


def test_zombie_and_process_long_gone_are_told_apart() -> None:
    child = subprocess.Popen(["true"])
    wait_until(lambda: fields_of(Path(f"/proc/{child.pid}/status"))["State"][0] == "Z")
    with pytest.raises(TargetGone, match="zombie"):
        attach(child.pid)
    child.wait()
    with pytest.raises(TargetGone, match="does not exist"):
        attach(child.pid)


def test_thread_is_not_a_process(ward: Ward) -> None:
    with ward("dead_leader") as patient:
        other = max(states(patient))
        with pytest.raises(CannotAttach, match=f"thread of process {patient.pid} .use {patient.pid}"):
            attach(other)


@pytest.mark.parametrize("pid", [0, -1])
def test_pid_must_be_positive(pid: int) -> None:
    with pytest.raises(InvalidArgument):
        attach(pid)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_timeout_must_be_positive(timeout_s: float) -> None:
    with pytest.raises(InvalidArgument):
        attach(os.getpid(), timeout_s=timeout_s)


def test_pid_beyond_all_pids_does_not_exist() -> None:
    with pytest.raises(TargetGone):
        attach(1 << 40)
