"""An io_uring with registered buffers: memory pinned for the kernel, which then writes past the page tables."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_IO_URING_SETUP, _IO_URING_REGISTER = 425, 427  # the same on every machine
_REGISTER_BUFFERS, _UNREGISTER_BUFFERS = 0, 1


def _call(number: int, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(number, *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(result)


@contextmanager
def pinned(*ranges: tuple[int, int]) -> Iterator[int]:
    """The (start, length) ranges as registered buffers of one ring; gives its descriptor.

    :raises OSError: io_uring is switched off or missing.
    """
    parameters = ctypes.create_string_buffer(120)
    ring = _call(_IO_URING_SETUP, 2, ctypes.addressof(parameters))
    try:
        vectors = ctypes.create_string_buffer(b"".join(struct.pack("2Q", *piece) for piece in ranges))
        _call(_IO_URING_REGISTER, ring, _REGISTER_BUFFERS, ctypes.addressof(vectors), len(ranges))
        yield ring
        # Closing alone lets the kernel unpin them some time later.
        _call(_IO_URING_REGISTER, ring, _UNREGISTER_BUFFERS, 0, 0)
    finally:
        os.close(ring)
