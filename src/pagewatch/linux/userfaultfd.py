"""A userfaultfd in asynchronous write-protect mode: of this process, or taken out of another.

Asynchronous mode (``UFFD_FEATURE_WP_ASYNC``, Linux 6.7) is fixed when the handle shakes hands with the kernel
and holds for its whole life: nobody is woken and nobody waits, the kernel itself resolves each first write. It also
resolves the kernel's own writes (read(2) into a buffer), even for a handle that is ``UFFD_USER_MODE_ONLY``.
"""

import errno
import os
from enum import Enum

from pagewatch.linux.abi.userfaultfd import (
    UFFD_API,
    UFFD_USER_MODE_ONLY,
    UFFDIO_API,
    UFFDIO_REGISTER,
    UFFDIO_REGISTER_MODE_WP,
    UFFDIO_UNREGISTER,
    UFFDIO_WRITEPROTECT,
    UFFDIO_WRITEPROTECT_MODE_WP,
    USERFAULTFD_IOC_NEW,
    Feature,
    uffdio_api,
    uffdio_range,
    uffdio_register,
    uffdio_writeprotect,
)
from pagewatch.linux.proc import ADDRESS_SPACE_GONE, hint_for_user, under_seccomp_filter
from pagewatch.linux.syscalls import ioctl, syscall
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import (
    FeatureMissing,
    NotPermitted,
    RangeNotArmed,
    RangeNotTrackable,
    TargetGone,
    TrackerClosed,
)
from pagewatch.vocab.regions import Regions

# UFFDIO_WRITEPROTECT holds the mmap lock for reading all the time, and so keeps the target's own mmap calls
# waiting; measured 15 ms a GiB, so a piece keeps them waiting for about 4 ms.
_PIECE_BYTES = 256 << 20

_REFUSALS = {
    errno.ENOMEM: "it would take more mappings than sysctl vm.max_map_count allows, or memory that there is not",
    errno.EBUSY: "it is tracked by another userfaultfd already (another tracker, or a buffer on the same page)",
    errno.EPERM: "a shared file that is mapped read-only cannot be write-protected",
    errno.EINVAL: "the kernel supports no write-protection for this kind of mapping, or nothing is mapped there",
}


class UserfaultFd(Closing):
    """Owns one userfaultfd in asynchronous write-protect mode."""

    def __init__(self, fd: int, pid: int) -> None:
        """Shake hands on a fresh descriptor, which this object then owns.

        :param pid: the process whose memory the descriptor belongs to, for errors.
        :raises FeatureMissing: the kernel has no asynchronous write-protection; the descriptor is closed.
        """
        self._fd = fd
        self._pid = pid
        try:
            self._shake_hands()
        except BaseException:
            self.close()
            raise

    def _shake_hands(self) -> None:
        wanted = Feature.WP_ASYNC | Feature.WP_UNPOPULATED | Feature.WP_HUGETLBFS_SHMEM | Feature.PAGEFAULT_FLAG_WP
        try:
            ioctl(self._fd, UFFDIO_API, uffdio_api(api=UFFD_API, features=wanted))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise FeatureMissing(
                "uffd_wp_async",
                "this kernel's userfaultfd has no asynchronous write-protection",
                "Linux 6.7 or newer on x86-64, 6.10 or newer on arm64",
            ) from error

    def register(self, start: int, end: int) -> None:
        """See :meth:`pagewatch.ports.WriteProtection.register`."""
        request = uffdio_register(range=uffdio_range(start, end - start), mode=UFFDIO_REGISTER_MODE_WP)
        try:
            ioctl(self._descriptor(), UFFDIO_REGISTER, request)
        except OSError as error:
            if error.errno in (errno.ENOMEM, errno.ESRCH) and self._address_space_gone():
                raise TargetGone(self._pid, ADDRESS_SPACE_GONE) from error
            if error.errno in _REFUSALS:
                raise RangeNotTrackable(start, end, _REFUSALS[error.errno]) from error
            raise

    def protect(self, start: int, end: int) -> None:
        """See :meth:`pagewatch.ports.WriteProtection.protect`; goes in pieces of 256 MiB."""
        try:
            for position in range(start, end, _PIECE_BYTES):
                self._protect_piece(position, min(position + _PIECE_BYTES, end))
        except OSError as error:
            if error.errno != errno.EINVAL or end - start <= _PIECE_BYTES:
                raise
            # A piece ended inside a hugetlb page of 1 GiB. There are few of those: all at once is quick.
            self._protect_piece(start, end)

    def _protect_piece(self, start: int, end: int) -> None:
        request = uffdio_writeprotect(range=uffdio_range(start, end - start), mode=UFFDIO_WRITEPROTECT_MODE_WP)
        try:
            ioctl(self._descriptor(), UFFDIO_WRITEPROTECT, request)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise RangeNotArmed(Regions([(start, end)])) from error
            if error.errno == errno.ESRCH:
                raise TargetGone(self._pid, ADDRESS_SPACE_GONE) from error
            raise

    def unregister(self, start: int, end: int) -> None:
        """See :meth:`pagewatch.ports.WriteProtection.unregister`."""
        try:
            ioctl(self._descriptor(), UFFDIO_UNREGISTER, uffdio_range(start, end - start))
        except OSError as error:
            # Nothing mapped there, a mapping that was never ours, or no address space any more.
            if error.errno not in (errno.EINVAL, errno.ENOMEM, errno.ESRCH):
                raise

    def fileno(self) -> int:
        """The descriptor.

        :raises TrackerClosed: it was closed.
        """
        return self._descriptor()

    def close(self) -> None:
        """Close the descriptor; the kernel lifts all registrations with the last copy of it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _descriptor(self) -> int:
        if self._fd < 0:
            raise TrackerClosed("the userfaultfd is closed: the process was detached")
        return self._fd

    def _address_space_gone(self) -> bool:
        """Ask for something harmless: the second page is never ours, which a living address space says by ENOENT."""
        request = uffdio_writeprotect(range=uffdio_range(PAGE_SIZE, PAGE_SIZE), mode=UFFDIO_WRITEPROTECT_MODE_WP)
        try:
            ioctl(self._fd, UFFDIO_WRITEPROTECT, request)
        except OSError as error:
            return error.errno == errno.ESRCH
        return False


class Way(Enum):
    """How to come by a userfaultfd, best first. In asynchronous mode they track alike."""

    CALL = "userfaultfd(2)"
    """For root, or for all where ``vm.unprivileged_userfaultfd`` is 1."""
    DEVICE = "/dev/userfaultfd"
    """For whoever may open it (Linux 6.1)."""
    USER_MODE_ONLY = "userfaultfd(2) for user mode only"
    """For all (Linux 5.11), unless a seccomp filter or security module forbids the call."""

    def open(self) -> int:
        """A fresh descriptor, which the caller owns.

        :raises OSError: this way is closed.
        """
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        if self is Way.DEVICE:
            return _open_by_device(flags)
        return syscall("userfaultfd", flags | (UFFD_USER_MODE_ONLY if self is Way.USER_MODE_ONLY else 0))


def open_userfaultfd() -> int:
    """A fresh userfaultfd of this process by the first way that is open; the caller owns the descriptor.

    :raises NotPermitted: no way is open to this user.
    :raises FeatureMissing: the kernel was built without userfaultfd.
    """
    return open_by_first_way()[1]


def open_by_first_way() -> tuple[Way, int]:
    """As :func:`open_userfaultfd`, with the way that it went."""
    refusals: list[OSError] = []
    for way in Way:
        try:
            return way, way.open()
        except OSError as error:
            refusals.append(error)
    raise _refused(refusals[-1]) from refusals[-1]


def _open_by_device(flags: int) -> int:
    device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
    try:
        return ioctl(device, USERFAULTFD_IOC_NEW, flags)
    finally:
        os.close(device)


def _refused(last: OSError) -> Exception:
    """What it means that every way is closed, the one that is open to all included."""
    if last.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS) and under_seccomp_filter():
        return NotPermitted(
            "userfaultfd is refused by the seccomp filter of this container or sandbox",
            "allow the userfaultfd system call in its profile, or give it /dev/userfaultfd "
            "(docker run --device /dev/userfaultfd) with read and write permission for this user",
        )
    if last.errno in (errno.EPERM, errno.EACCES):
        return NotPermitted(
            "userfaultfd is refused by a security policy of this machine",
            "allow it in the policy (SELinux, AppArmor), or give this user access to /dev/userfaultfd",
        )
    if last.errno == errno.EINVAL:
        # Before 5.11 there was no such thing as user mode only.
        return NotPermitted(
            "this kernel gives userfaultfd to root only",
            hint_for_user("run as root, or ", root="give the container the capability SYS_PTRACE, or ")
            + "set sysctl vm.unprivileged_userfaultfd=1",
        )
    if last.errno == errno.ENOSYS:
        return FeatureMissing("userfaultfd", "this kernel was built without it", "a kernel with CONFIG_USERFAULTFD=y")
    return last
