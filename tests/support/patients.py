"""Programs to attach to (``patient.c``), and what must hold of them afterwards, read straight from /proc."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from support.pace import longer

_SOURCE = Path(__file__).with_name("patient.c")


class Patient:
    """A running program that has said it is ready; a context manager that ends it if it still runs."""

    def __init__(self, argv: list[str], **options: object) -> None:
        self.popen = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options
        )
        self.pid = self.popen.pid
        assert self.popen.stdout is not None
        if self.popen.stdout.readline() != b"ready\n":
            self.__exit__()
            raise RuntimeError(f"{argv} did not get ready and exited with {self.popen.returncode}")

    def finish(self, *, feed: bytes = b"x", timeout_s: float = 30) -> str:
        """Feed its standard input, end that, and give what it printed; it must exit with 0."""
        said, _ = self.popen.communicate(feed, timeout=longer(1000) / 1000 * timeout_s)
        assert self.popen.returncode == 0, (self.popen.returncode, said)
        return said.decode().strip()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def is_untouched(self) -> bool:
        """No thread is traced, and no userfaultfd is among its descriptors."""
        return not self.tracers() and not any("userfaultfd" in link for link in descriptors_of(self.pid))

    def tracers(self) -> set[int]:
        """The processes that trace its threads."""
        fields = [fields_of(task / "status") for task in Path(f"/proc/{self.pid}/task").iterdir()]
        return {int(each["TracerPid"]) for each in fields} - {0}

    def state(self) -> str:
        """One letter, as ps shows it."""
        return fields_of(Path(f"/proc/{self.pid}/status"))["State"][0]

    def blocked_in(self) -> str:
        """The system call it sleeps in, arguments, stack pointer and instruction pointer included."""
        return Path(f"/proc/{self.pid}/syscall").read_text().strip()

    def __enter__(self) -> "Patient":
        return self

    def __exit__(self, *_: object) -> None:
        self.popen.kill()
        self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                stream.close()


class Ward:
    """Starts patients of one compiled program."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def __call__(self, *arguments: str, **options: object) -> Patient:
        return Patient([str(self.program), *arguments], **options)

    def asleep(self, *arguments: str, **options: object) -> Patient:
        """A patient that has arrived in the call it is to sleep in."""
        patient = self(*arguments, **options)
        wait_until(lambda: patient.state() == "S" and patient.blocked_in() != "running")
        return patient


@pytest.fixture(scope="session")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    """The compiled patients."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for the programs to attach to (apt-get install gcc libc6-dev)")
    program = tmp_path_factory.mktemp("ward") / "patient"
    subprocess.run([compiler, "-O1", "-pthread", "-o", program, _SOURCE], check=True)
    ward = Ward(program)
    with ward("waiting", "read") as one:
        command = [program, "tracing", str(one.pid)]
        tracer = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)
        if b"ready" not in tracer.stdout:
            pytest.skip("needs ptrace of processes of the same user (run as root; a container needs SYS_PTRACE)")
    return ward


def descriptors_of(pid: int) -> list[str]:
    """What the descriptors of a process stand for; one may be closed between listing and reading."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


def fields_of(path: Path) -> dict[str, str]:
    """The fields of a status file; none if the thread ended."""
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {"TracerPid": "0", "State": "X"}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def expected_checksum(steps: int) -> int:
    """What ``scramble`` in patient.c makes of 1, by squaring its affine step."""
    modulus = 1 << 64
    factor, offset, value = 6364136223846793005, 1442695040888963407, 1
    while steps:
        if steps & 1:
            value = (factor * value + offset) % modulus
        offset = offset * (factor + 1) % modulus
        factor = factor * factor % modulus
        steps >>= 1
    return value


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll until something holds; fails the test if it never does."""
    deadline_s = time.monotonic() + longer(30_000) / 1000
    while not condition():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.002)
