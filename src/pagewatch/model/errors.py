"""What the model raises beyond OSError: signals, and the bugs it is there to catch."""

import os
import signal


class Signal(Exception):
    """A fault that ends in a signal to the thread that made the access.

    ``code`` is ``si_code``: SEGV_MAPERR 1, SEGV_ACCERR 2, BUS_ADRERR 2, BUS_MCEERR_AR 4.
    """

    def __init__(self, signo: signal.Signals, code: int, address: int, lsb: int = 0) -> None:
        """:param address: bytes, as in ``si_addr``. :param lsb: log2 of the failed memory's size, or 0."""
        super().__init__(f"{signo.name} code {code} at {address:#x}")
        self.signo = signo
        self.code = code
        self.address = address
        self.lsb = lsb


SEGV_MAPERR = 1
"""No mapping there."""
SEGV_ACCERR = 2
"""The mapping does not allow it (guard pages, too)."""
BUS_ADRERR = 2
"""Beyond the end of the file, or memory that cannot be had."""
BUS_MCEERR_AR = 4
"""The memory failed, and the access needs it."""


class KernelBug(AssertionError):
    """The simulated kernel did what a kernel must never do; under the explorer this is a finding."""


class UseAfterFree(KernelBug):
    """A frame or a page table was touched after it was freed."""


def os_error(number: int, what: str) -> OSError:
    """The error of a system call, worded as the live world words it: "CALL: text"."""
    return OSError(number, f"{what}: {os.strerror(number)}")
