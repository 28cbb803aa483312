"""MADV_GUARD_INSTALL over write-protected file memory never returns; over anonymous memory it does."""

import os
import signal
import time
from pathlib import Path

from common import ANONYMOUS, PAGE, PRIVATE, SHARED, Watch, checked, mapped

GUARD_INSTALL = 102


def install(flags: int) -> None:
    """Protect one page, then ask for a guard there."""
    page = mapped(1, flags)
    watch = Watch()
    watch.register(page, 1)
    watch.protect(page, 1)
    checked("madvise", page, PAGE, GUARD_INSTALL)


for name, flags in (("anonymous", PRIVATE | ANONYMOUS), ("shared", SHARED | ANONYMOUS)):
    child = os.fork()
    if child == 0:
        install(flags)
        os._exit(0)
    deadline = time.monotonic() + 2
    while not (ended := os.waitpid(child, os.WNOHANG)[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended:
        print(f"{name}: guard installed")
        continue
    ticks = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[12]
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(f"{name}: not done after 2 s, {int(ticks) * 10} ms of them in the kernel; ended by SIGKILL")
