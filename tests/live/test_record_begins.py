"""``pagewatch record`` where it begins under adverse conditions."""

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from pagewatch.cli import record
from pagewatch.cli.interrupts import Interrupts
from pagewatch.trace import Trace
from pagewatch.vocab.errors import CannotLaunch
from support.commands import PAGEWATCH, pagewatch
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")


@pytest.mark.parametrize("closed", ["<", ">", "2>"])
def test_a_closed_stream_is_closed_to_the_program_and_no_harm_to_the_recording(tmp_path: Path, closed: str) -> None:
    command = f"{' '.join(map(shlex.quote, PAGEWATCH))} record -o r --"
    kept = "1" if closed == "2>" else "2"
    program = f"sh -c 'for fd in 0 1 2; do readlink /proc/self/fd/$fd; done >said; read line; echo read: $? >&{kept}'"
    done = subprocess.run(
        ["sh", "-c", f"{command} {program} {closed}&-"],
        cwd=tmp_path,
        input="a line\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    streams = (tmp_path / "said").read_text().splitlines()
    assert streams[("<", ">", "2>").index(closed)] == ("/dev/null" if closed != ">" else str(tmp_path / "said"))
    assert f"read: {int(closed == '<')}" in done.stdout + done.stderr
    assert Trace.open(tmp_path / "r").complete


def test_a_recording_that_cannot_begin_ends_the_program_before_it_ran(tmp_path: Path) -> None:
    # The first byte of a file is too much.
    command = f"ulimit -f 0; exec {' '.join(map(shlex.quote, PAGEWATCH))} record -o r -- sh -c 'echo ran'"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "ran" not in done.stdout
    assert "File too large" in done.stderr


def test_a_program_that_ends_before_the_first_collect_is_not_taken_for_one_that_wrote_nothing(tmp_path: Path) -> None:
    brief = pagewatch("record", "-o", tmp_path / "brief", "--hz", 0.1, "--", "true")
    assert "0 page writes" in brief.stderr
    assert "before the first collect" in brief.stderr
    idle = pagewatch("record", "-o", tmp_path / "idle", "--hz", 20, "--duration", 0.5, "--", "sleep", 1)
    assert "before the first collect" not in idle.stderr


def test_an_interrupt_while_the_program_is_loaded_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise CannotLaunch("sort", "the process that was to load it has ended")

    monkeypatch.setattr(record, "launch", interrupted)
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        record._launch(["sort"], interrupts)
