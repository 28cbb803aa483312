"""Writes of a KVM guest are writes: any process that runs a virtual machine can be tracked like any other.

Write-protecting runs the MMU notifiers, so the guest's next store exits and faults on the host.
"""

import ctypes
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import pagewatch
from pagewatch.testing.epoch_contract import written_pages
from support import libc
from support.needs import requires

pytestmark = [
    requires("uffd_wp_async", "pagemap_scan", "kvm"),
    pytest.mark.skipif(os.uname().machine != "x86_64", reason="the guest is real-mode x86 code"),
    pytest.mark.skipif(mmap.PAGESIZE != 4096, reason="the guest stores to pages of 4 KiB"),
]

_KVM_CREATE_VM, _KVM_GET_VCPU_MMAP_SIZE, _KVM_CREATE_VCPU = 0xAE01, 0xAE04, 0xAE41
_KVM_SET_USER_MEMORY_REGION, _KVM_RUN = 0x4020AE46, 0xAE80
_KVM_SET_REGS, _KVM_GET_SREGS, _KVM_SET_SREGS = 0x4090AE82, 0x8138AE83, 0x4138AE84
_SREGS_BYTES, _EXIT_HLT = 312, 5
_MEMORY = 16 * 4096
_ENTRY = 0x1000
_STORED = (3, 7, 12)
# mov byte [page], 1 for each page; hlt
_CODE = b"".join(b"\xc6\x06" + struct.pack("<H", page * 4096 + 9) + b"\x01" for page in _STORED) + b"\xf4"


class _Guest:
    """A virtual machine of one processor that stores to three pages and halts, as often as it is asked to."""

    def __init__(self, memory: int, vcpu: int, run: mmap.mmap) -> None:
        self.memory = memory
        self._vcpu = vcpu
        self._run = run

    def run(self) -> None:
        registers = bytearray(144)
        struct.pack_into("QQ", registers, 128, _ENTRY, 2)
        fcntl.ioctl(self._vcpu, _KVM_SET_REGS, registers)
        fcntl.ioctl(self._vcpu, _KVM_RUN, 0)
        assert struct.unpack_from("I", self._run, 8)[0] == _EXIT_HLT


@contextmanager
def _guest() -> Iterator[_Guest]:
    with ExitStack() as stack:

        def owned(fd: int) -> int:
            stack.callback(os.close, fd)
            return fd

        kvm = owned(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        vm = owned(fcntl.ioctl(kvm, _KVM_CREATE_VM, 0))
        memory = libc.mmap(_MEMORY)
        stack.callback(libc.munmap, memory, _MEMORY)
        ctypes.memset(memory, 0, _MEMORY)
        ctypes.memmove(memory + _ENTRY, _CODE, len(_CODE))
        fcntl.ioctl(vm, _KVM_SET_USER_MEMORY_REGION, struct.pack("IIQQQ", 0, 0, 0, _MEMORY, memory))
        vcpu = owned(fcntl.ioctl(vm, _KVM_CREATE_VCPU, 0))
        run = stack.enter_context(mmap.mmap(vcpu, fcntl.ioctl(kvm, _KVM_GET_VCPU_MMAP_SIZE, 0)))
        special = bytearray(_SREGS_BYTES)
        fcntl.ioctl(vcpu, _KVM_GET_SREGS, special)
        struct.pack_into("Q", special, 0, 0)
        struct.pack_into("H", special, 12, 0)
        fcntl.ioctl(vcpu, _KVM_SET_SREGS, special)
        yield _Guest(memory, vcpu, run)


def test_stores_of_a_guest_are_seen_to_the_page_epoch_after_epoch():
    with _guest() as guest, pagewatch.track((guest.memory, guest.memory + _MEMORY)) as tracker:
        for _ in range(3):
            guest.run()
            assert written_pages(tracker.collect(), guest.memory, 4096) == list(_STORED)
            assert tracker.collect().regions.pages == 0
