"""Programs that are attached to before their first instruction, and otherwise run as if started plainly."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pagewatch.linux.remote.launch import launch
from pagewatch.vocab.errors import CannotAttach, CannotLaunch, InvalidArgument
from support.needs import requires
from support.patients import Ward, fields_of, wait_until

pytestmark = [pytest.mark.live, requires("userfaultfd")]

_PATIENT_S = 30
_AT_BASE = 7

# What a program can find out about how it was started, as one line of JSON.
_SELF_PORTRAIT = """
import json, os, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
json.dump({
    "environment": sorted(open("/proc/self/environ", "rb").read().decode().split("\\0")),
    "arguments": open("/proc/self/cmdline", "rb").read().decode().split("\\0"),
    "signals": [status[name].strip() for name in ("SigBlk", "SigIgn", "SigPnd", "ShdPnd")],
    "group": os.getpgrp(), "session": os.getsid(0), "parent": os.getppid(), "directory": os.getcwd(),
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "priority": os.nice(0), "name": status["Name"].strip(), "tracer": status["TracerPid"].strip(),
}, sys.stdout)
"""


def auxiliary_vector(pid: int) -> dict[int, int]:
    words = struct.iter_unpack("QQ", Path(f"/proc/{pid}/auxv").read_bytes())
    return dict(words)


def entry_of_loader(path: Path) -> int:
    return int(struct.unpack_from("<Q", path.read_bytes(), 24)[0])


def mapped_at(pid: int, address: int) -> Path:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return next(Path(line.split()[-1]) for line in lines if line.startswith(f"{address:x}-"))


def test_program_waits_at_its_very_first_instruction(ward: Ward) -> None:
    with launch(
        [str(ward.program), "waiting", "read"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as launched:
        base = auxiliary_vector(launched.pid)[_AT_BASE]
        pointer = int(Path(f"/proc/{launched.pid}/syscall").read_text().split()[-1], 16)
        assert pointer == base + entry_of_loader(mapped_at(launched.pid, base))
        assert Path(f"/proc/{launched.pid}/exe").readlink() == ward.program
        assert fields_of(Path(f"/proc/{launched.pid}/status"))["State"][0] == "t"
        descriptor = Path(f"/proc/self/fd/{launched.attachment.uffd_fd}")
        assert descriptor.readlink() == Path("anon_inode:[userfaultfd]")
        assert not os.get_inheritable(launched.attachment.uffd_fd)
        launched.release()
        assert launched.wait(_PATIENT_S) == 0


def portraits(**options: object) -> tuple[dict[str, object], dict[str, object]]:
    """What a program finds that launch started, and what it finds that Popen started."""
    command = [sys.executable, "-c", _SELF_PORTRAIT, "", "two words"]
    plain = subprocess.Popen(command, stdout=subprocess.PIPE, **options)
    expected = plain.communicate()[0]
    with launch(command, stdout=subprocess.PIPE, **options) as launched:
        launched.release()
        found = launched.process.communicate(timeout=_PATIENT_S)[0]
        assert launched.wait() == 0
    return json.loads(found), json.loads(expected)


@pytest.mark.parametrize("options", [{}, {"env": {"PATH": "/bin:/usr/bin", "ODD": "a=b\n", "EMPTY": ""}}, {"cwd": "/"}])
def test_program_finds_what_popen_would_have_given_it(options: dict[str, object]) -> None:
    found, expected = portraits(**options)
    assert found == expected


def test_interpreter_that_is_slow_to_load_is_not_taken_for_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever traces the shim before its interpreter is loaded sees that one's exec first.
    slow = tmp_path / "python"
    slow.write_text(f'#!/bin/sh\ncase "$*" in *shim.py*) sleep 0.5;; esac\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    with launch(["true"]) as launched:
        assert Path(f"/proc/{launched.pid}/comm").read_text() == "true\n"
        launched.release()
        assert launched.wait(_PATIENT_S) == 0


def test_process_that_ends_before_it_is_ready_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text(f'#!/bin/sh\ncase "$*" in *shim.py*) exit 3;; esac\nexec {sys.executable} "$@"\n')
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(CannotLaunch, match=r"cannot start true: .* has ended"):
        launch(["true"])


@pytest.mark.parametrize("close_fds", [True, False])
def test_descriptors_pass_as_with_popen_and_none_of_ours_goes_along(close_fds: bool) -> None:
    reader, writer = os.pipe()
    try:
        os.set_inheritable(writer, True)
        # With a directory, Popen forks; its posix_spawn would leave two signals ignored and the interpreter's LC_CTYPE.
        found, expected = portraits(close_fds=close_fds, cwd=os.curdir)
        assert found == expected
        command = [sys.executable, "-c", f"import os; os.write({writer}, b'x')"]
        with launch(command, close_fds=close_fds, stderr=subprocess.DEVNULL) as launched:
            launched.release()
            assert (launched.wait(_PATIENT_S) == 0) is not close_fds
    finally:
        os.close(writer)
        written = os.read(reader, 9)
        os.close(reader)
    assert written == (b"" if close_fds else b"x")


@pytest.mark.parametrize("action", [signal.SIG_IGN, signal.default_int_handler])
def test_interrupt_is_ignored_where_popen_would_have_it_ignored(action: object) -> None:
    handler = signal.signal(signal.SIGINT, action)
    try:
        found, expected = portraits()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert found == expected
    is_ignored = int(found["signals"][1], 16) >> signal.SIGINT - 1 & 1
    assert bool(is_ignored) is (action is signal.SIG_IGN)


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", -15)])
def test_exit_code_is_the_programs_own(script: str, code: int) -> None:
    with launch(["sh", "-c", script]) as launched:
        launched.release()
        assert launched.wait(_PATIENT_S) == code


def test_script_is_attached_to_in_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    with launch([str(script)]) as launched:
        assert Path(f"/proc/{launched.pid}/exe").readlink() == Path("/bin/sh").resolve()
        launched.release()
        assert launched.wait(_PATIENT_S) == 3


def test_relative_command_is_looked_up_in_its_own_directory(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\nexit 4\n")
    (tmp_path / "script").chmod(0o755)
    with launch(["./script"], cwd=tmp_path) as launched:
        launched.release()
        assert launched.wait(_PATIENT_S) == 4


def test_script_that_names_no_interpreter_is_run_by_the_shell(tmp_path: Path) -> None:
    directory = tmp_path / "of PATH"
    directory.mkdir()
    (directory / "script").write_text('exit "$1"\n')
    (directory / "script").chmod(0o755)
    for command, cwd in (("script", None), ("./script", directory)):
        with launch([command, "5"], cwd=cwd, env={"PATH": f"/nowhere:{directory}"}) as launched:
            assert Path(f"/proc/{launched.pid}/exe").readlink() == Path("/bin/sh").resolve()
            launched.release()
            assert launched.wait(_PATIENT_S) == 5


def test_data_is_not_run_as_a_script(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"exit 0;\0\n")
    data.chmod(0o755)
    with pytest.raises(CannotLaunch, match="Exec format error"):
        launch([str(data)])


def test_leaving_the_context_releases_the_program() -> None:
    with launch(["true"]) as launched:
        pass
    assert launched.wait(_PATIENT_S) == 0


def test_program_killed_before_its_release_has_an_exit_code() -> None:
    with launch(["sleep", "60"]) as launched:
        launched.process.kill()
        launched.release()
        assert launched.wait(_PATIENT_S) == -9


@pytest.mark.parametrize("name", ["SIGTERM", "SIGSTOP"])
def test_signal_before_the_release_reaches_the_program(name: str) -> None:
    with launch(["sleep", "60"]) as launched:
        launched.process.send_signal(signal.Signals[name])
        launched.release()
        if name == "SIGSTOP":
            status = Path(f"/proc/{launched.pid}/status")
            wait_until(lambda: fields_of(status)["State"][0] == "T")
            launched.process.kill()
        assert launched.wait(_PATIENT_S) < 0


@pytest.mark.parametrize(
    ("command", "reason"),
    [("/no/such/program", "No such file"), ("no-such-program", "No such file"), ("/", "Permission denied")],
)
def test_command_that_cannot_be_loaded_is_told_in_words(command: str, reason: str) -> None:
    with pytest.raises(CannotLaunch, match=reason) as caught:
        launch([command])
    assert caught.value.command == command


def test_missing_directory_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(CannotLaunch, match=r"No such file or directory.*nowhere"):
        launch(["true"], cwd=tmp_path / "nowhere")


@pytest.mark.parametrize("argv", [[], ["a\0b"]])
def test_command_must_be_words(argv: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        launch(argv)


def test_failed_launches_leave_nothing_behind() -> None:
    before = {entry.name for entry in Path("/proc/self/fd").iterdir()}
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    for _ in range(3):
        with pytest.raises(CannotLaunch):
            launch(["no-such-program"])
    assert {entry.name for entry in Path("/proc/self/fd").iterdir()} == before
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == children


_TRACKER = """
import sys, time
from pagewatch.linux.remote.launch import launch
launched = launch(["sh", "-c", "echo ran > $0; sleep 0.2; echo done >> $0", sys.argv[1]])
print(launched.pid, flush=True)
time.sleep(60)
"""


def test_program_runs_on_when_its_tracker_is_killed_before_the_release(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", _TRACKER, tmp_path / "result"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as tracker:
        assert tracker.stdout is not None
        pid = int(tracker.stdout.readline())
        assert fields_of(Path(f"/proc/{pid}/status"))["State"][0] == "t"
        time.sleep(0.1)
        assert not (tmp_path / "result").exists()
        tracker.kill()
    wait_until(lambda: (tmp_path / "result").exists() and (tmp_path / "result").read_text() == "ran\ndone\n")


def test_program_runs_on_when_the_surgeon_is_killed_before_the_release() -> None:
    with launch(["sh", "-c", "exit 6"]) as launched:
        os.kill(int(fields_of(Path(f"/proc/{launched.pid}/status"))["TracerPid"]), signal.SIGKILL)
        assert launched.wait(_PATIENT_S) == 6


def test_32_bit_program_is_refused_before_it_runs(tmp_path: Path) -> None:
    # The smallest i386 ELF that a kernel loads: a header, one segment, and `mov $1, %eax; mov $9, %ebx; int $0x80`.
    code = bytes.fromhex("b801000000bb09000000cd80")
    size, base = 84 + len(code), 0x10000
    header = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1", 2, 3, 1, base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    segment = struct.pack("<IIIIIIII", 1, 0, base, base, size, size, 5, 0x1000)
    program = tmp_path / "program"
    program.write_bytes(header + segment + code)
    program.chmod(0o755)
    try:
        ran = subprocess.run([program], check=False).returncode
    except OSError:
        pytest.skip("needs a kernel that runs i386 programs")
    assert ran == 9
    with pytest.raises(CannotAttach, match="32-bit"):
        launch([str(program)])
