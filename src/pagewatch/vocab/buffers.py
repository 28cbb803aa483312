"""Where a Python object keeps its bytes."""

from typing import Any

import numpy as np

from pagewatch.vocab.errors import InvalidArgument


def buffer_of(owner: Any) -> Any:
    """The object that has the bytes: the owner itself or, of shared memory objects, the view in their ``buf``."""
    # Memory of its own comes first: of a structure or a record array, `buf` may be one field of many.
    if isinstance(owner, np.ndarray) or hasattr(owner, "__dlpack__"):
        return owner
    try:
        memoryview(owner).release()
    except TypeError:
        kept = getattr(owner, "buf", None)
        return kept if isinstance(kept, memoryview) else owner
    except (ValueError, BufferError):
        # It has the protocol, and its view says what is wrong.
        return owner
    return owner


def buffer_span(buffer: Any) -> tuple[int, int]:
    """Start address and length in bytes of a contiguous buffer, which may be read-only.

    :param buffer: an object with the buffer protocol, one that keeps such a buffer (see :func:`buffer_of`), or a CPU
        tensor that exports DLPack.
    :raises InvalidArgument: it has no memory of its own, is empty, or is not contiguous.
    """
    array = _view(buffer_of(buffer))
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
