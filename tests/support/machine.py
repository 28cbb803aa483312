"""Changes to the whole machine that some tests need, one run at a time, and each taken back at the end.

They hold a lock, so that two runs of this suite do not take the other's change for a leftover or undo it.
"""

import ctypes
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

_LOCK_FILE = Path(tempfile.gettempdir()) / "pagewatch-tests.lock"
_ZRAM = Path("/sys/class/zram-control")
_SWAP_BYTES = 64 << 20


@contextmanager
def machine_lock(kind: int) -> Iterator[None]:
    """Hold the lock of all runs on this machine: ``fcntl.LOCK_EX`` to change it, ``LOCK_SH`` to look at it."""
    try:
        # For reading, which a lock needs no more than: it may be another user's file.
        fd = os.open(_LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = os.open(_LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, kind)
        yield
    finally:
        os.close(fd)


@pytest.fixture
def swap() -> Iterator[None]:
    """A swap area on compressed memory, or a skipped test."""
    with swapping():
        yield


@contextmanager
def swapping() -> Iterator[None]:
    """Have a swap area on compressed memory. Skips where it cannot be had."""
    if not (_ZRAM / "hot_add").exists():
        pytest.skip("needs the zram driver to swap to")
    if os.geteuid():
        pytest.skip("only root can add swap")
    with machine_lock(fcntl.LOCK_EX), ExitStack() as undo:
        number = int((_ZRAM / "hot_add").read_text())
        undo.callback((_ZRAM / "hot_remove").write_text, str(number))
        device = f"/dev/zram{number}"
        Path(f"/sys/block/zram{number}/disksize").write_text(str(_SWAP_BYTES))
        undo.callback(Path(f"/sys/block/zram{number}/reset").write_text, "1")
        subprocess.run(["mkswap", device], check=True, capture_output=True)
        _call("swapon", device.encode(), 0)
        undo.callback(_call, "swapoff", device.encode())
        yield


def _call(name: str, *args: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*args):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
