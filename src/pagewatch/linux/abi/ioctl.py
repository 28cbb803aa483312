"""How an ioctl request number is put together (include/uapi/asm-generic/ioctl.h)."""

import ctypes
from dataclasses import dataclass
from typing import Any

_IOC_WRITE = 1
_IOC_READ = 2


@dataclass(frozen=True, slots=True)
class Request:
    """An ioctl request: its name for errors, and its number."""

    name: str
    number: int


def _ioc(direction: int, kind: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | kind << 8 | number


def IO(name: str, kind: int, number: int) -> Request:  # noqa: N802 - the kernel's macro
    """``_IO``: no argument structure."""
    return Request(name, _ioc(0, kind, number, 0))


def IOR(name: str, kind: int, number: int, arg: type[Any]) -> Request:  # noqa: N802 - the kernel's macro
    """``_IOR``: the kernel writes the structure (or declares so)."""
    return Request(name, _ioc(_IOC_READ, kind, number, ctypes.sizeof(arg)))


def IOWR(name: str, kind: int, number: int, arg: type[Any]) -> Request:  # noqa: N802 - the kernel's macro
    """``_IOWR``: read and written."""
    return Request(name, _ioc(_IOC_READ | _IOC_WRITE, kind, number, ctypes.sizeof(arg)))
