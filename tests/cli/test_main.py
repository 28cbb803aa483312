"""The command as a whole: help, exit codes, short errors, lazy imports."""

import errno
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from pagewatch.cli import main as main_module
from pagewatch.cli.main import COMMANDS, run
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument, TraceError
from support.commands import PAGEWATCH, assert_short_error, pagewatch


@pytest.mark.parametrize("name", COMMANDS)
def test_the_overview_says_what_the_commands_themselves_say(name: str) -> None:
    command = import_module(f"pagewatch.cli.{name}").command
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert command.name == name


def test_every_command_is_in_the_overview_and_has_json() -> None:
    done = pagewatch("--help")
    assert done.returncode == 0
    for name, about in COMMANDS.items():
        assert name in done.stdout
        assert about.split()[0] in done.stdout
        assert "--json" in pagewatch(name, "--help").stdout


def test_an_interrupt_while_all_is_being_loaded_is_said_in_a_line() -> None:
    code = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from pagewatch.cli.entry import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "pagewatch: interrupted\n")


@pytest.mark.parametrize("heavy", ["numpy", "pyarrow", "rich", "bokeh", "matplotlib"])
def test_help_imports_nothing_heavy(heavy: str) -> None:
    program = (
        "import sys; from pagewatch.cli.main import run; code = run(['--help']); sys.exit(code or %r in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program % heavy], capture_output=True, check=False)
    assert done.returncode == 0


def test_wrong_use_exits_with_2_and_says_where_to_look() -> None:
    assert_short_error(pagewatch(), 2, "no command given", "pagewatch --help")
    assert_short_error(pagewatch("frobnicate"), 2, "frobnicate", "pagewatch --help")
    assert_short_error(pagewatch("scan"), 2, "pagewatch scan --help")
    assert_short_error(pagewatch("scan", "--no-such-option"), 2, "--no-such-option", "pagewatch scan --help")
    assert_short_error(pagewatch("report", "run", "--html"), 2, "--html", "requires", "pagewatch report --help")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InvalidArgument("bad number"), 2, "pagewatch: bad number\n"),
        (TraceError("/x", "cut off"), 1, "pagewatch: /x: cut off\n"),
        (FeatureMissing("png", "matplotlib is missing", "pip install it"), 1, "pagewatch: png: matplotlib"),
        (FileNotFoundError(2, "No such file or directory", "/a\x1b]b"), 1, "pagewatch: /a\\x1b]b: No such file"),
        (OSError("odd"), 1, "pagewatch: odd\n"),
        (KeyboardInterrupt(), 1, "pagewatch: interrupted\n"),
        (click.ClickException("two\nlines"), 1, "pagewatch: two\npagewatch: lines\n"),
    ],
)
def test_errors_become_exit_codes_and_short_messages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main_module.pagewatch, "main", fail)
    assert run([]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.out == ""


def test_an_error_that_nobody_foresaw_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(main_module.pagewatch, "main", fail)
    with pytest.raises(ZeroDivisionError):
        run([])


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    command = " ".join(f"'{word}'" for word in PAGEWATCH) + " --help | true; exit ${PIPESTATUS[0]}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [("--help",), ("doctor", "--json"), ("model", "list")])
def test_output_that_cannot_be_written_is_named_with_advice(arguments: tuple[str, ...]) -> None:
    # Buffered as it is for users, whatever this machine's environment says.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PAGEWATCH, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "pagewatch: the standard output cannot be written: No space left on device",
        "pagewatch: make room there or send it elsewhere",
    ]


def test_kernel_s_want_of_space_is_not_taken_for_that_of_the_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "perf_event_open: No space left on device")

    monkeypatch.setattr(main_module.pagewatch, "main", fail)
    assert run([]) == 1
    assert "standard output" not in capsys.readouterr().err
