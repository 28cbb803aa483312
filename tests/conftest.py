"""Plugins and settings of this suite; helpers are in ``support``."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

pytest_plugins = ["support.needs", "support.machine", "support.leftovers", "support.patients"]

# How long an example takes says nothing on a machine that does other things, too; pytest-timeout ends what hangs.
# CI runs the same examples every time; chance belongs to runs that somebody watches.
hypothesis.settings.register_profile("pagewatch", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("pagewatch")

# A shell's background job ignores Ctrl-C, nohup the end of the terminal, and so do their children: the programs that
# tests interrupt would never end.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

_LIVE = Path(__file__).parent / "live"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies in ``live`` runs against the kernel of this machine."""
    for item in items:
        if item.path.is_relative_to(_LIVE):
            item.add_marker("live")
