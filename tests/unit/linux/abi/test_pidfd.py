"""PIDFD_GET_INFO in numbers."""

import ctypes

from pagewatch.linux.abi import pidfd


def test_information_is_version_0_of_64_bytes():
    assert ctypes.sizeof(pidfd.pidfd_info) == 64
    assert pidfd.pidfd_info.exit_code.offset == 60
    assert pidfd.PIDFD_GET_INFO.number == 0xC040FF0B
    assert pidfd.PIDFD_INFO_EXIT == 8
