"""Addresses of buffers, checked by reading and writing the memory at the address that was found."""

import array
import ctypes
import importlib.util
import mmap
from multiprocessing import shared_memory

import numpy as np
import pytest

from pagewatch.vocab.buffers import buffer_of, buffer_span
from pagewatch.vocab.errors import InvalidArgument


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Packet(ctypes.Structure):
    """A structure with a field of that name, as of a C program's."""

    _fields_ = [("length", ctypes.c_int), ("buf", ctypes.c_char * 100)]


PATTERN = bytes(range(1, 241))


def numpy_examples():
    plain = np.frombuffer(PATTERN, np.uint8)
    yield "bytes of numpy", plain
    yield "C order", np.array(plain.reshape(12, 20), order="C")
    yield "Fortran order", np.asfortranarray(plain.reshape(20, 12).T)
    yield "a slice of rows", plain.reshape(12, 20)[3:7]
    yield "one row", plain.reshape(12, 20)[5]
    yield "one number", np.array(7.0)
    yield "datetime64", plain.view("M8[ns]")
    yield "timedelta64", plain.view("m8[s]")
    yield "structured", plain.view([("a", "<u2"), ("b", "<f8")])
    yield "complex", plain.view(np.complex128)
    yield "text", plain.view("S8")
    yield "big-endian", plain.view(">u4")


@pytest.mark.parametrize("given", [pytest.param(a, id=name) for name, a in numpy_examples()])
def test_arrays_are_found_where_their_bytes_are(given):
    start, n_bytes = buffer_span(given)
    assert ctypes.string_at(start, n_bytes) == given.tobytes(order="A")


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(bytes(PATTERN), id="bytes"),
        pytest.param(bytearray(PATTERN), id="bytearray"),
        pytest.param(memoryview(PATTERN), id="memoryview"),
        pytest.param(memoryview(PATTERN)[40:80], id="part of a memoryview"),
        pytest.param(memoryview(bytearray(PATTERN)).cast("I"), id="cast memoryview"),
        pytest.param(array.array("d", [1.5, -2.5]), id="array.array"),
        pytest.param((ctypes.c_uint32 * 5)(1, 2, 3, 4, 5), id="ctypes array"),
        pytest.param(((ctypes.c_int16 * 3) * 2)((1, 2, 3), (4, 5, 6)), id="nested ctypes array"),
        pytest.param(Point(3, 4.5), id="ctypes structure"),
        pytest.param((Point * 3)((1, 2.0), (3, 4.0), (5, 6.0)), id="ctypes structures"),
        pytest.param(memoryview(np.arange(6.0).reshape(2, 3)), id="memoryview of an array"),
        pytest.param(memoryview(np.float64(2.5)), id="number without dimensions"),
    ],
)
def test_other_buffers_are_found_where_their_bytes_are(given):
    start, n_bytes = buffer_span(given)
    assert ctypes.string_at(start, n_bytes) == bytes(memoryview(given).cast("B")) == memoryview(given).tobytes()


def test_fortran_ordered_memoryview_is_found():
    given = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    assert buffer_span(memoryview(given)) == buffer_span(given)


@pytest.mark.parametrize(
    "make",
    [lambda: bytearray(4096), lambda: np.zeros(512), lambda: array.array("q", [0] * 512)],
    ids=["bytearray", "numpy", "array"],
)
def test_stores_at_the_address_reach_the_buffer(make):
    given = make()
    start, n_bytes = buffer_span(given)
    ctypes.memset(start + n_bytes - 1, 0x5A, 1)
    assert memoryview(given).cast("B")[n_bytes - 1] == 0x5A


def test_mmap_is_found_at_its_page():
    with mmap.mmap(-1, 3 * mmap.PAGESIZE) as given:
        start, n_bytes = buffer_span(given)
        assert start % mmap.PAGESIZE == 0
        assert n_bytes == 3 * mmap.PAGESIZE
        ctypes.memset(start + mmap.PAGESIZE, 0x21, 1)
        assert given[mmap.PAGESIZE] == 0x21


def test_read_only_mmap_is_found():
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ) as given:
        start, n_bytes = buffer_span(given)
        assert ctypes.string_at(start, n_bytes) == bytes(mmap.PAGESIZE)


def test_read_only_array_is_found():
    given = np.arange(9)
    given.flags.writeable = False
    assert buffer_span(given)[1] == given.nbytes


def test_shared_memory_is_found():
    segment = shared_memory.SharedMemory(create=True, size=8192)
    try:
        start, n_bytes = buffer_span(segment.buf)
        ctypes.memset(start + 5000, 0x42, 1)
        assert (segment.buf[5000], n_bytes) == (0x42, 8192)
    finally:
        segment.close()
        segment.unlink()


def test_shared_memory_objects_are_found_by_the_buffer_that_they_keep():
    segment = shared_memory.SharedMemory(create=True, size=8192)
    try:
        assert buffer_span(segment) == buffer_span(segment.buf)
    finally:
        segment.close()
        segment.unlink()
    with pytest.raises(InvalidArgument, match="SharedMemory has no buffer"):
        buffer_span(segment)


@pytest.mark.parametrize(
    "given",
    [
        Packet(5, b"hello"),
        np.rec.array([(1, b"x" * 100)] * 3, [("length", "<i4"), ("buf", "S100")]),
        np.rec.array([(7,)] * 3, [("buf", "<i8")]),
    ],
    ids=["ctypes structure", "record array", "record array of that field alone"],
)
def test_a_field_named_buf_is_not_taken_for_the_whole(given):
    whole = memoryview(given)
    address = ctypes.addressof(given) if isinstance(given, ctypes.Structure) else given.ctypes.data
    assert buffer_of(given) is given
    assert buffer_span(given) == (address, whole.nbytes)


def test_an_attribute_named_buf_that_is_no_view_of_memory_is_not_taken():
    class Connection:
        """Keeps a copy of what it received last."""

        buf = b"received"

    with pytest.raises(InvalidArgument, match="Connection has no buffer"):
        buffer_span(Connection())


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_cpu_tensor_is_found():
    import torch

    tensor = torch.arange(1000, dtype=torch.float32)
    assert buffer_span(tensor) == (tensor.data_ptr(), 4000)


def test_dlpack_producer_without_buffer_protocol_is_found():
    class Tensor:
        """What a tensor library offers: DLPack and nothing else."""

        def __init__(self):
            self.data = np.arange(10.0)

        def __dlpack__(self, **options):
            return self.data.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.data.__dlpack_device__()

    tensor = Tensor()
    assert buffer_span(tensor) == (tensor.data.ctypes.data, 80)


@pytest.mark.parametrize(
    "given", [[1, 2], (1, 2), {"a": 1}, "text", None, 7, object(), iter([])], ids=lambda g: type(g).__name__
)
def test_objects_without_memory_of_their_own_are_refused(given):
    with pytest.raises(InvalidArgument, match=f"{type(given).__name__} has no buffer"):
        buffer_span(given)


@pytest.mark.parametrize(
    "given",
    [
        np.zeros(10)[::2],
        np.zeros(10)[::-1],
        np.zeros((4, 6))[:, 1:3],
        np.broadcast_to(np.zeros(1), (10,)),
        memoryview(bytes(10))[::2],
    ],
    ids=["every second", "reversed", "columns", "broadcast", "strided memoryview"],
)
def test_buffers_with_gaps_are_refused(given):
    with pytest.raises(InvalidArgument, match="not contiguous"):
        buffer_span(given)


@pytest.mark.parametrize("given", [b"", bytearray(), np.empty(0), np.empty((3, 0)), array.array("d")], ids=repr)
def test_empty_buffers_are_refused(given):
    with pytest.raises(InvalidArgument, match="empty"):
        buffer_span(given)


def test_released_memoryview_is_refused():
    given = memoryview(b"abc")
    given.release()
    with pytest.raises(InvalidArgument, match="released or closed"):
        buffer_span(given)


def test_closed_mmap_is_refused():
    given = mmap.mmap(-1, mmap.PAGESIZE)
    given.close()
    with pytest.raises(InvalidArgument, match="released or closed"):
        buffer_span(given)
