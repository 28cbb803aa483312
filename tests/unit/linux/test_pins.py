"""What io_uring says of its registered buffers, as text."""

import pytest

from pagewatch.linux.pins import parse_buffers

FDINFO = """\
pos:\t0
flags:\t02000002
SqMask:\t0x1
UserFiles:\t1
    0: /var/lib/data
UserBufs:\t3
    0: 0x7f10c2a00000/4096
    1: 0x0/0
    2: 0x7f10c2b00010/70000
PollList:
  op=6, task_works=0
"""


def test_buffers_have_addresses_and_sizes():
    assert parse_buffers(FDINFO) == [(0x7F10C2A00000, 4096), (0x7F10C2B00010, 70000)]


def test_an_empty_slot_is_no_buffer():
    assert parse_buffers("UserBufs:\t1\n    0: 0x0/0\n") == []


@pytest.mark.parametrize("text", ["", "UserFiles:\t0\n", "UserBufs:\t0\nPollList:\n"])
def test_no_buffers_are_no_buffers(text):
    assert parse_buffers(text) == []


def test_a_file_named_like_a_buffer_is_none():
    assert parse_buffers("UserFiles:\t1\n    0: 0x1000/4096\nUserBufs:\t1\n    0: 0x2000/4096\n") == [(0x2000, 4096)]
