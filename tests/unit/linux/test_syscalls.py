"""Every system call and ioctl names itself when it fails."""

import ctypes
import errno
import os
from types import SimpleNamespace

import pytest

from pagewatch.linux.abi.ioctl import IO
from pagewatch.linux.syscalls import ioctl, is_unknown_call, syscall, syscall_number
from pagewatch.vocab.errors import FeatureMissing

FIONREAD = IO("FIONREAD", 0x54, 0x1B)


def test_a_failed_ioctl_names_its_request():
    readable, writable = os.pipe()
    try:
        with pytest.raises(OSError, match="NO_SUCH_REQUEST: Inappropriate ioctl") as caught:
            ioctl(readable, IO("NO_SUCH_REQUEST", 0xFE, 0xFE))
        assert is_unknown_call(caught.value)
    finally:
        os.close(readable)
        os.close(writable)


def test_a_structure_is_written_back_into():
    readable, writable = os.pipe()
    try:
        os.write(writable, b"12345")
        waiting = ctypes.c_int(0)
        assert ioctl(readable, FIONREAD, waiting) == 0
        assert waiting.value == 5
    finally:
        os.close(readable)
        os.close(writable)


def test_a_failed_system_call_names_itself():
    with pytest.raises(OSError, match="close: Bad file descriptor") as caught:
        syscall("close", -1)
    assert caught.value.errno == errno.EBADF
    assert not is_unknown_call(caught.value)


def test_results_are_given_back():
    assert syscall("getpid") == os.getpid()


def test_an_unknown_machine_is_a_missing_feature(monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="riscv64"))
    with pytest.raises(FeatureMissing, match=r"riscv64.*x86_64 and aarch64"):
        syscall_number("userfaultfd")


@pytest.mark.parametrize(
    ("number", "unknown"), [(errno.ENOSYS, True), (errno.ENOTTY, True), (errno.EINVAL, False), (errno.EPERM, False)]
)
def test_only_two_errors_mean_that_a_call_is_unknown(number, unknown):
    assert is_unknown_call(OSError(number, "")) is unknown
