"""Changes to the whole machine that some tests need: huge pages and swap. Each is taken back at the end.

They hold a lock, so that two runs of this suite do not take the other's change for a leftover or undo it.
"""

import ctypes
import errno
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

_LOCK_FILE = Path(tempfile.gettempdir()) / "pagewatch-tests.lock"
_HUGE_2M = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
_ZRAM = Path("/sys/class/zram-control")
_SWAP_BYTES = 64 << 20


@contextmanager
def machine_lock(kind: int) -> Iterator[None]:
    """Hold the lock of all runs on this machine: ``fcntl.LOCK_EX`` to change it, ``LOCK_SH`` to look at it."""
    with _LOCK_FILE.open("a") as file:
        fcntl.flock(file, kind)
        yield


@pytest.fixture
def huge_pages() -> Iterator[Callable[[int], None]]:
    """``huge_pages(n)`` reserves n free hugetlb pages of 2 MiB for the test, or skips it."""
    with ExitStack() as undo:

        def reserve(count: int) -> None:
            undo.enter_context(machine_lock(fcntl.LOCK_EX))
            try:
                before = int(_HUGE_2M.read_text())
            except FileNotFoundError:
                pytest.skip("this kernel has no hugetlb pages of 2 MiB")
            undo.callback(_write_if_allowed, _HUGE_2M, str(before))
            if not _write_if_allowed(_HUGE_2M, str(before + count)):
                pytest.skip(f"needs the right to write {_HUGE_2M}")
            got = int(_HUGE_2M.read_text()) - before
            if got < count:
                pytest.skip(f"the kernel found memory for {got} of {count} huge pages")

        yield reserve


@pytest.fixture
def swap() -> Iterator[None]:
    """A swap area on compressed memory, or a skipped test."""
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


def _write_if_allowed(path: Path, text: str) -> bool:
    try:
        path.write_text(text)
    except PermissionError:
        return False
    except OSError as error:
        # A read-only /sys, as in most containers.
        if error.errno != errno.EROFS:
            raise
        return False
    return True
