"""Probes of what else the machine offers: counting page faults, running virtual machines."""

import ctypes
import errno
import os
import struct

from pagewatch.linux.abi.perf import (
    EXCLUDE_HV,
    EXCLUDE_KERNEL,
    PERF_COUNT_SW_PAGE_FAULTS,
    PERF_FLAG_FD_CLOEXEC,
    PERF_TYPE_SOFTWARE,
    perf_event_attr,
)
from pagewatch.linux.probes.support import Support
from pagewatch.linux.scratch import anonymous
from pagewatch.linux.syscalls import syscall
from pagewatch.vocab.addresses import PAGE_SIZE

_N_PAGES = 4


def probe_perf_page_faults() -> Support:
    """Whether perf counts this thread's page faults."""
    attributes = perf_event_attr(
        type=PERF_TYPE_SOFTWARE,
        size=ctypes.sizeof(perf_event_attr),
        config=PERF_COUNT_SW_PAGE_FAULTS,
        flags=EXCLUDE_KERNEL | EXCLUDE_HV,
    )
    try:
        fd = syscall("perf_event_open", ctypes.addressof(attributes), 0, -1, -1, PERF_FLAG_FD_CLOEXEC)
    except OSError as error:
        return _no_perf(error)
    try:
        with anonymous(_N_PAGES * PAGE_SIZE) as memory:
            before = _count(fd)
            memory.populate()
            counted = _count(fd) - before
    finally:
        os.close(fd)
    # The interpreter may fault in pages of its own in between.
    if counted < _N_PAGES:
        return Support.no(f"perf counted {counted} page faults of {_N_PAGES}")
    return Support.yes()


def probe_kvm() -> Support:
    """Whether this user may run virtual machines; only opens the device."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return Support.no("there is no /dev/kvm", "load the kvm module; a virtual machine needs nested virtualization")
    except PermissionError:
        return Support.no("/dev/kvm may not be opened", "join the group that owns it, usually kvm")
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENXIO):
            raise
        return Support.no("/dev/kvm has no driver behind it", "load kvm_intel or kvm_amd; enable it in the firmware")
    return Support.yes()


def _count(fd: int) -> int:
    return int(struct.unpack("Q", os.read(fd, 8))[0])


def _no_perf(error: OSError) -> Support:
    if error.errno in (errno.EACCES, errno.EPERM):
        return Support.no(
            "perf events are refused to this user",
            "sysctl kernel.perf_event_paranoid=2 or less, or the capability PERFMON; containers forbid it by seccomp",
        )
    if error.errno in (errno.ENOSYS, errno.ENOENT, errno.EOPNOTSUPP):
        return Support.no("this kernel has no perf events", "CONFIG_PERF_EVENTS=y")
    raise error
