"""A scan of an address space that is gone, on this kernel and in the model."""

import fcntl
import os
import struct

import pytest

from pagewatch.model import Kernel, Quirks
from pagewatch.model.scan.call import ScanArg
from pagewatch.vocab.query import Query
from support.forked import forked_child

_SCAN, _END, _VECTOR = 0xC0606610, 1 << 46, 1 << 20


def _live(flags: int) -> tuple[int, int]:
    with forked_child(os.getpid) as (child, _):
        fd = os.open(f"/proc/{child}/pagemap", os.O_RDONLY)
    argument = bytearray(struct.pack("12Q", 96, flags, 0, _END, 0, _VECTOR, 8, 0, 0, 0, 0, 0))
    try:
        result = fcntl.ioctl(fd, _SCAN, argument)
    except OSError as error:
        result = -(error.errno or 0)
    finally:
        os.close(fd)
    return result, struct.unpack("12Q", argument)[4]


def _modelled(flags: int, quirks: Quirks) -> tuple[int, int]:
    process = Kernel(quirks=quirks).spawn()
    process.exit()
    reply = process.pagemap_scan(ScanArg(start=0, end=_END, query=Query(), flags=flags, vec=_VECTOR, vec_len=8))
    return reply.result, reply.walk_end or 0


@pytest.mark.parametrize("flags", [0, 1, 8], ids=["plain", "protecting", "unknown flag"])
def test_a_scan_of_a_dead_process_ends_alike(quirks: Quirks, flags: int) -> None:
    assert _modelled(flags, quirks) == _live(flags)
