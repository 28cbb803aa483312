"""Where a Python object keeps its bytes."""

from typing import Any

import numpy as np

from pagewatch.vocab.errors import InvalidArgument


def buffer_span(buffer: Any) -> tuple[int, int]:
    """Start address and length in bytes of a contiguous buffer, which may be read-only.

    :param buffer: an object with the buffer protocol, or a CPU tensor that exports DLPack.
    :raises InvalidArgument: it has no memory of its own, is empty, or is not contiguous.
    """
    array = _view(buffer)
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        raise InvalidArgument("the buffer is not contiguous; track the array it is a view of")
    if array.nbytes == 0:
        raise InvalidArgument("the buffer is empty: there is no page to watch")
    return array.ctypes.data, array.nbytes


def _view(buffer: Any) -> "np.ndarray[Any, Any]":
    if isinstance(buffer, np.ndarray):
        return buffer
    try:
        view = memoryview(buffer)
    except TypeError:
        return _dlpack_view(buffer)
    except ValueError as error:
        raise InvalidArgument(f"the buffer was released or closed already: {error}") from error
    if not view.contiguous:
        raise InvalidArgument("the buffer is not contiguous; track the buffer it is a view of")
    if not view.nbytes:
        return np.empty(0)
    # A flat view of bytes: element formats that numpy does not know do not matter.
    return np.frombuffer(view.cast("B"), np.uint8) if view.c_contiguous else np.asarray(view)


def _dlpack_view(tensor: Any) -> "np.ndarray[Any, Any]":
    # np.asarray would copy a list in silence; from_dlpack shares memory or fails.
    try:
        return np.from_dlpack(tensor)
    except (AttributeError, TypeError, BufferError, RuntimeError, ValueError) as error:
        raise InvalidArgument(
            f"{type(tensor).__name__} has no buffer in this process's memory; pass an array, a bytearray, "
            "an mmap, a CPU tensor, or a (start, end) pair of addresses"
        ) from error
