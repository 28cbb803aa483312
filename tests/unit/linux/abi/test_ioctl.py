"""Request numbers, against ones that the kernel's headers give for well-known ioctls."""

import ctypes

from pagewatch.linux.abi.ioctl import IO, IOR, IOWR


def test_known_requests_have_their_known_numbers():
    assert IO("KVM_RUN", 0xAE, 0x80).number == 0xAE80
    assert IOR("BLKGETSIZE64", 0x12, 114, ctypes.c_size_t).number == 0x80081272
    assert IOWR("DRM_IOCTL_VERSION", ord("d"), 0, ctypes.c_char * 64).number == 0xC0406400


def test_a_request_keeps_its_name_for_errors():
    assert IO("KVM_RUN", 0xAE, 0x80).name == "KVM_RUN"
