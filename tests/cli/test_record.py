"""What ``pagewatch record`` refuses, before it starts or touches anything."""

from pathlib import Path

import pytest

import support.recorded as rec
from pagewatch.trace import Trace
from support.commands import assert_short_error, pagewatch

PROGRAM = ("--", "touch", "was-started")


def refused(tmp_path: Path, *arguments: object, code: int = 1) -> str:
    """The refusal of a command line that would start a program; it must not have."""
    done = pagewatch("record", *arguments, *PROGRAM, cwd=tmp_path)
    assert_short_error(done, code)
    assert not (tmp_path / "was-started").exists()
    return done.stderr


def test_neither_or_both_kinds_of_target_are_wrong_use(tmp_path: Path) -> None:
    assert "give either" in refused(tmp_path, "-p", 1, code=2)
    assert_short_error(pagewatch("record", cwd=tmp_path), 2, "give either -p PID or a program")


@pytest.mark.parametrize(
    "options",
    [("--hz", "0"), ("--hz", "-3"), ("--hz", "1e9"), ("--hz", "x"), ("--duration", "0"), ("--method", "magic")],
)
def test_impossible_options_are_wrong_use(tmp_path: Path, options: tuple[str, str]) -> None:
    refused(tmp_path, *options, code=2)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_recording_is_never_overwritten_without_force(tmp_path: Path) -> None:
    rec.write_sample(tmp_path / "r")
    assert "--force" in refused(tmp_path, "-o", "r")
    assert Trace.open(tmp_path / "r").complete


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_directory_of_something_else_is_never_touched(tmp_path: Path, force: tuple[str, ...]) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "precious").write_text("data")
    assert "not a recording" in refused(tmp_path, "-o", "d", *force)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["precious"]


def test_an_unwritable_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(tmp_path, "-o", "file")
    refused(tmp_path, "-o", "file/r")
    assert "no directory" in refused(tmp_path, "-o", "a/b")
    refused(tmp_path, "-o", "/sys/kernel/r")


def test_a_missing_process_is_one_clear_error(tmp_path: Path) -> None:
    pid_max = int(Path("/proc/sys/kernel/pid_max").read_text())
    done = pagewatch("record", "-p", pid_max, cwd=tmp_path)
    assert_short_error(done, 1, "does not exist")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("pid", ["0", "-1", "x"])
def test_what_is_no_pid_is_wrong_use(tmp_path: Path, pid: str) -> None:
    assert_short_error(pagewatch("record", "-p", pid, cwd=tmp_path), 2)


def test_a_program_that_does_not_exist_is_one_clear_error(tmp_path: Path) -> None:
    done = pagewatch("record", "no-such-program-\x1b[31m", cwd=tmp_path)
    assert_short_error(done, 1, "cannot start no-such-program-\\x1b[31m")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_program_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert_short_error(pagewatch("record", "-o", "r", "--", "./data", cwd=tmp_path), 1, "cannot start ./data")
