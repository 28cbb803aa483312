"""The choke point: every raw system call and ioctl passes here, so every OSError names its request."""

import ctypes
import errno
import fcntl
import os
from functools import cache
from typing import Any

from pagewatch.linux.abi.ioctl import Request
from pagewatch.linux.abi.numbers import SYSCALLS
from pagewatch.vocab.errors import FeatureMissing


def ioctl(fd: int, request: Request, arg: Any = 0) -> int:
    """Run an ioctl; a structure passed as ``arg`` is written back into.

    :raises OSError: with the request's name in its text.
    """
    try:
        return int(fcntl.ioctl(fd, request.number, arg))
    except OSError as error:
        raise OSError(error.errno, f"{request.name}: {os.strerror(error.errno or 0)}") from None


def syscall(name: str, *args: int) -> int:
    """Run a system call by name with integer (or address) arguments.

    :raises OSError: with the call's name in its text.
    :raises FeatureMissing: this machine's system call numbers are not known.
    """
    result = int(_libc().syscall(*(ctypes.c_long(arg) for arg in (syscall_number(name), *args))))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def syscall_number(name: str) -> int:
    """The number of a system call on this machine.

    :raises FeatureMissing: on machines other than x86-64 and arm64.
    """
    machine = os.uname().machine
    if machine not in SYSCALLS:
        raise FeatureMissing(
            f"machine {machine}", "its system call numbers are not known", "x86_64 and aarch64 are supported"
        )
    return SYSCALLS[machine][name]


def is_unknown_call(error: OSError) -> bool:
    """Whether the kernel does not know the call or the ioctl at all."""
    return error.errno in (errno.ENOSYS, errno.ENOTTY)


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc
