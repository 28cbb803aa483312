"""Probe of synchronous write-protection: a writer waits until its fault is answered."""

import ctypes
import errno
import os
import select
import threading
from contextlib import closing

from pagewatch.linux.abi.userfaultfd import (
    UFFD_API,
    UFFD_EVENT_PAGEFAULT,
    UFFD_PAGEFAULT_FLAG_WP,
    UFFDIO_API,
    UFFDIO_REGISTER,
    UFFDIO_REGISTER_MODE_WP,
    UFFDIO_WRITEPROTECT,
    UFFDIO_WRITEPROTECT_MODE_WP,
    Feature,
    uffd_msg,
    uffdio_api,
    uffdio_range,
    uffdio_register,
    uffdio_writeprotect,
)
from pagewatch.linux.probes.support import Support
from pagewatch.linux.scratch import Scratch, anonymous
from pagewatch.linux.syscalls import ioctl
from pagewatch.linux.userfaultfd import open_userfaultfd
from pagewatch.vocab.addresses import PAGE_SIZE, page_floor

_N_PAGES = 8
_PAGE = 2
_TIMEOUT_MS = 2000


def probe_uffd_wp_sync() -> Support:
    """Whether a store into protected memory waits and tells where, and goes on when it is let, twice."""
    with anonymous(_N_PAGES * PAGE_SIZE) as memory:
        memory.populate()
        with closing(_Handle(memory)) as handle:
            if not handle.protects_on_fault():
                return Support.no(
                    "this kernel's userfaultfd cannot write-protect", "Linux 5.7 on x86-64, 6.10 on arm64"
                )
            for round_number in (1, 2):
                handle.protect(_PAGE)
                if not _store_is_held(memory, handle, value=0x40 + round_number):
                    return Support.no(f"in round {round_number} a store into protected memory was not held")
    return Support.yes()


class _Handle:
    """A userfaultfd of this process over scratch memory; closing it lets every waiting writer go."""

    def __init__(self, memory: Scratch) -> None:
        self._memory = memory
        self._fd = open_userfaultfd()

    def protects_on_fault(self) -> bool:
        """Shake hands and register; whether the kernel has the feature."""
        try:
            ioctl(self._fd, UFFDIO_API, uffdio_api(api=UFFD_API, features=Feature.PAGEFAULT_FLAG_WP))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        span = uffdio_range(self._memory.start, self._memory.end - self._memory.start)
        ioctl(self._fd, UFFDIO_REGISTER, uffdio_register(range=span, mode=UFFDIO_REGISTER_MODE_WP))
        return True

    def protect(self, page: int) -> None:
        self._change(page, UFFDIO_WRITEPROTECT_MODE_WP)

    def resolve(self, page: int) -> None:
        """Lift the protection and wake who waits."""
        self._change(page, 0)

    def wait_for_write(self) -> int | None:
        """The address of the page that somebody waits to write to; None if nobody does in time."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if not poller.poll(_TIMEOUT_MS):
            return None
        message = uffd_msg.from_buffer_copy(os.read(self._fd, ctypes.sizeof(uffd_msg)))
        is_write = message.event == UFFD_EVENT_PAGEFAULT and message.flags & UFFD_PAGEFAULT_FLAG_WP
        return page_floor(message.address) if is_write else None

    def close(self) -> None:
        os.close(self._fd)

    def _change(self, page: int, mode: int) -> None:
        span = uffdio_range(self._memory.start + page * PAGE_SIZE, PAGE_SIZE)
        ioctl(self._fd, UFFDIO_WRITEPROTECT, uffdio_writeprotect(range=span, mode=mode))


def _store_is_held(memory: Scratch, handle: _Handle, *, value: int) -> bool:
    """Whether a store of another thread waits for :meth:`_Handle.resolve`, and is done then."""
    address = memory.start + _PAGE * PAGE_SIZE
    byte = ctypes.c_ubyte.from_address(address)
    # Not a store of the interpreter: a thread that waits for its fault while it holds the interpreter's lock
    # would wait for the one that answers, too. A call through CDLL has let go of it.
    store = ctypes.CDLL(None).memset
    store.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    writer = threading.Thread(target=store, args=(address, value, 1), daemon=True)
    writer.start()
    try:
        held = handle.wait_for_write() == address and byte.value != value
    finally:
        handle.resolve(_PAGE)
        writer.join()
    return held and byte.value == value
