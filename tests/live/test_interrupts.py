"""Ctrl-C and progress on a real terminal."""

import signal
import sys
import time
from pathlib import Path

from pagewatch.trace import Trace
from support.commands import PAGEWATCH, start
from support.needs import requires
from support.terminal import on_terminal

pytestmark = requires("uffd_wp_async", "pagemap_scan")

COUNTING = """
import signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda n, _: got.append(n))
print("ready", flush=True)
while not got:
    time.sleep(0.01)
time.sleep(0.5)
print("signals:", len(got), flush=True)
sys.exit(5)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(4)
print("done after all", flush=True)
"""


def test_ctrl_c_reaches_the_program_once_and_its_end_is_recorded(tmp_path: Path) -> None:
    with on_terminal([*PAGEWATCH, "record", "-o", tmp_path / "r", "--", sys.executable, "-c", COUNTING]) as terminal:
        terminal.wait_for("ready")
        terminal.press_ctrl_c()
        assert terminal.finish() == 0
    assert "signals: 1" in terminal.shown
    assert "exited with status 5" in terminal.shown
    trace = Trace.open(tmp_path / "r")
    assert trace.complete
    assert trace.processes[0].exit_status == 5


def test_a_program_that_ignores_ctrl_c_is_waited_for_and_its_recording_is_kept(tmp_path: Path) -> None:
    with on_terminal([*PAGEWATCH, "record", "-o", tmp_path / "r", "--", sys.executable, "-c", STUBBORN]) as terminal:
        terminal.wait_for("ready")
        terminal.press_ctrl_c()
        terminal.wait_for("goes on, unrecorded")
        assert Trace.open(tmp_path / "r").ended_reason == "interrupted"
        assert terminal.finish() == 0
    assert "done after all" in terminal.shown


def test_a_second_ctrl_c_leaves_the_program(tmp_path: Path) -> None:
    with on_terminal([*PAGEWATCH, "record", "-o", tmp_path / "r", "--", sys.executable, "-c", STUBBORN]) as terminal:
        terminal.wait_for("ready")
        terminal.press_ctrl_c()
        # Two of the same signal at once count as one.
        time.sleep(0.5)
        terminal.press_ctrl_c()
        terminal.wait_for("is left running")
        terminal.finish()
    assert Trace.open(tmp_path / "r").complete


def test_progress_is_shown_while_a_running_process_is_recorded(tmp_path: Path) -> None:
    idle = "import time; print('ready', flush=True); time.sleep(60)"
    with start([sys.executable, "-c", idle]) as target:
        assert target.stdout is not None
        target.stdout.readline()
        with on_terminal([*PAGEWATCH, "record", "-o", tmp_path / "r", "-p", target.pid]) as terminal:
            terminal.wait_for(" epochs · ")
            terminal.press_ctrl_c()
            assert terminal.finish() == 0
        assert target.poll() is None
        target.kill()
    assert "interrupted" in terminal.shown
    assert "next: pagewatch report" in terminal.shown.replace("\r\n", "")
    assert Trace.open(tmp_path / "r").complete


def test_no_progress_is_drawn_over_the_output_of_a_program(tmp_path: Path) -> None:
    slow = "import time\nfor i in range(3): print('line', i, flush=True); time.sleep(0.4)"
    with on_terminal([*PAGEWATCH, "record", "-o", tmp_path / "r", "--", sys.executable, "-c", slow]) as terminal:
        assert terminal.finish() == 0
    own = [line for line in terminal.shown.splitlines() if not line.startswith("pagewatch: ")]
    assert own == ["line 0", "line 1", "line 2"]


def test_the_closing_of_the_terminal_ends_the_recording_properly(tmp_path: Path) -> None:
    idle = "import time; print('ready', flush=True); time.sleep(60)"
    with start([sys.executable, "-c", idle]) as target:
        assert target.stdout is not None
        target.stdout.readline()
        with on_terminal([*PAGEWATCH, "record", "-o", tmp_path / "r", "-p", target.pid]) as terminal:
            terminal.wait_for(" epochs · ")
            terminal.process.send_signal(signal.SIGHUP)
            terminal.finish()
        target.kill()
    assert Trace.open(tmp_path / "r").ended_reason == "ended by SIGHUP"
