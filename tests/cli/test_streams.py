"""Standard streams that are closed, or that lack letters; how wide text is."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pagewatch.cli import streams
from support import recordings
from support.commands import PAGEWATCH
from support.recordings import Lively


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with many writes."""
    return recordings.write(Lively(n_epochs=20).recording(), tmp_path_factory.mktemp("recorded") / "run")


def run_in_shell(arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``pagewatch ARGUMENTS``, with the shell's redirections among them."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONUNBUFFERED", "COLUMNS")}
    return subprocess.run(
        ["sh", "-c", f"{shlex.join(PAGEWATCH)} {arguments}"],
        capture_output=True,
        encoding=environment.get("PYTHONIOENCODING", "utf-8"),
        timeout=60,
        check=False,
        env=kept | environment,
    )


@pytest.mark.parametrize("arguments", ["model list", "--help", "report {recorded}"])
def test_output_into_a_closed_descriptor_is_an_error(arguments: str, recorded: Path) -> None:
    done = run_in_shell(f"{arguments.format(recorded=recorded)} >&-")
    assert (done.returncode, done.stderr) == (1, "pagewatch: the standard output: Bad file descriptor\n")


def test_a_command_that_prints_nothing_does_not_need_an_output(recorded: Path, tmp_path: Path) -> None:
    done = run_in_shell(f"report {recorded} --html {tmp_path / 'report.html'} >&-")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").stat().st_size


def test_closed_input_is_an_error_to_who_reads_it() -> None:
    done = run_in_shell("model <&-")
    assert (done.returncode, done.stderr) == (1, "pagewatch: the standard input: Bad file descriptor\n")


def test_nobody_hears_what_is_said_on_closed_error_output(recorded: Path) -> None:
    done = run_in_shell(f"report {recorded} 2>&-")
    assert done.returncode == 0
    assert "Where and when" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_letters_that_an_encoding_lacks_look_like_them_and_keep_columns(recorded: Path, encoding: str) -> None:
    whole = run_in_shell(f"report {recorded}", PYTHONIOENCODING="utf-8")
    plain = run_in_shell(f"report {recorded}", PYTHONIOENCODING=encoding)
    assert plain.stderr == ""
    assert [len(line) for line in plain.stdout.splitlines()] == [len(line) for line in whole.stdout.splitlines()]
    assert "?" not in plain.stdout


def test_every_shade_of_the_map_stays_apart() -> None:
    shades = "·░▒▓█"
    assert len({shade.encode("ascii", errors="replace") for shade in shades}) == 1
    assert len(set(shades.translate(streams._LOOKALIKES))) == len(shades)


@pytest.mark.parametrize(("said", "columns"), [("0", 80), ("5", 40), ("40", 40), ("100", 100), ("nonsense", 80)])
def test_text_is_never_narrower_than_40_columns(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", said)
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert streams.console().width == columns
        assert streams.console(60).width == 60


def test_a_dumb_terminal_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "57")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert streams.console().width == 57
    assert streams.console(60).width == 60
