"""Running the command line as a user does: in a process of its own."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PAGEWATCH = (sys.executable, "-m", "pagewatch")
TIMEOUT_S = 60.0


def pagewatch(*arguments: object, cwd: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``pagewatch ARGUMENTS`` to its end."""
    return subprocess.run(
        [*PAGEWATCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=cwd,
        **options,
    )


def start(command: Sequence[object], **options: Any) -> subprocess.Popen[str]:
    """Start a program with pipes for its output; a context manager that waits for it."""
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def start_pagewatch(*arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Start ``pagewatch ARGUMENTS``."""
    return start([*PAGEWATCH, *arguments], **options)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; its value."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def assert_short_error(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The error contract of every command: its exit code, nothing on stdout, at most two lines on stderr."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert 1 <= len(done.stderr.splitlines()) <= 2
    assert "Traceback" not in done.stderr
    assert all(line.startswith("pagewatch: ") for line in done.stderr.splitlines())
    for word in words:
        assert word in done.stderr


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
