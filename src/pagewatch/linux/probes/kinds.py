"""Probes of kinds of memory: whether writes to each are tracked page by page."""

import errno
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

from pagewatch.linux import thp
from pagewatch.linux.abi.mman import MADV_POPULATE_WRITE, MAP_HUGETLB
from pagewatch.linux.abi.pagemap import PM_PRESENT
from pagewatch.linux.probes.rounds import tracks_writes
from pagewatch.linux.probes.support import Support
from pagewatch.linux.proc import parse_fields
from pagewatch.linux.scratch import Scratch, anonymous, shared_file
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.errors import RangeNotTrackable

_FILE_BYTES = 8 * PAGE_SIZE
_THP_SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_NO_THP = "this kernel has no transparent huge pages"
_NO_HUGETLB_PAGE = (errno.ENOMEM, errno.EFAULT, errno.EPERM)
_NO_ROOM = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOSPC, errno.EDQUOT)
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})


def probe_thp() -> Support:
    """Whether writes to a transparent huge page are tracked, small page by small page."""
    size = thp.huge_page_size()
    if not size:
        return Support.no(_NO_THP, "nothing to do: there are none to track")
    with anonymous(size, align=size) as memory:
        memory.advise(mmap.MADV_HUGEPAGE)
        memory.store(0)
        if not _all_present(memory):
            return Support.no(f"the kernel gave none ({_THP_SWITCH}: {_thp_switch()})", _thp_hint())
        return tracks_writes(memory)


def probe_process_madvise_collapse() -> Support:
    """Whether small pages can be put together to a huge one, as after tracking has split it."""
    size = thp.huge_page_size()
    if not size:
        return Support.no(_NO_THP, "nothing to do: tracking then splits none")
    with anonymous(size, align=size) as memory:
        memory.store(0)
        pidfd = os.pidfd_open(os.getpid())
        try:
            thp.collapse(pidfd, memory.start, memory.end)
        finally:
            os.close(pidfd)
        if not _all_present(memory):
            hint = "Linux 6.1 or newer, and free memory; without, khugepaged does it in its own time"
            return Support.no("the kernel does not put small pages together on request", hint)
    return Support.yes()


def probe_shmem() -> Support:
    """Whether writes to shared memory (memfd, tmpfs, shared anonymous) are tracked."""
    fd = os.memfd_create("pagewatch-probe", os.MFD_CLOEXEC)
    try:
        return _tracks_file(fd)
    finally:
        os.close(fd)


def probe_disk_files() -> Support:
    """Whether writes to a shared mapping of a file on a disk are tracked."""
    for directory in dict.fromkeys((tempfile.gettempdir(), "/var/tmp")):  # noqa: S108 - TMPDIR comes first
        if _file_system(directory) in _MEMORY_FILE_SYSTEMS:
            continue
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                return _tracks_file(file.fileno())
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
    return Support.no(
        "no directory for temporary files is on a disk with room, so it could not be tried", "set TMPDIR to one"
    )


def probe_hugetlb() -> Support:
    """Whether writes to pages of the hugetlb pool are tracked; takes one from the pool if one is free."""
    meminfo = parse_fields(Path("/proc/meminfo").read_text())
    if "Hugepagesize" not in meminfo:
        return Support.no("this kernel has no hugetlb pages", "nothing to do: there are none to track")
    size = int(meminfo["Hugepagesize"].split()[0]) * 1024
    try:
        with anonymous(size, flags=MAP_HUGETLB) as memory:
            # Where a control group or memory policy withholds the page that mmap(2) promised, a store ends in
            # SIGBUS and this in an error.
            memory.advise(MADV_POPULATE_WRITE)
            return tracks_writes(memory, pages=(0, 0), page_bytes=size)
    except RangeNotTrackable as error:
        return Support.no(error.reason, "Linux 6.7 or newer")
    except OSError as error:
        if error.errno not in _NO_HUGETLB_PAGE:
            raise
        return Support.no(
            "no page of the pool is free for this process, so it could not be tried",
            "sysctl vm.nr_hugepages=N gives some, at the cost of other memory",
        )


def _tracks_file(fd: int) -> Support:
    # A store into a page that the file system has no room for would end in SIGBUS.
    os.posix_fallocate(fd, 0, _FILE_BYTES)
    with shared_file(fd, _FILE_BYTES) as memory:
        try:
            return tracks_writes(memory)
        except RangeNotTrackable as error:
            return Support.no(error.reason, "a kernel with asynchronous write-protection takes every file")


def _all_present(memory: Scratch) -> bool:
    """After a store into one page only, all of them are there if that page is a huge one."""
    return bool(np.all(memory.pagemap() & np.uint64(PM_PRESENT)))


def _thp_switch() -> str:
    try:
        return _THP_SWITCH.read_text().strip()
    except OSError:
        return "cannot be read"


def _thp_hint() -> str:
    if "[never]" in _thp_switch():
        return f"nothing to do, unless you want them: echo madvise > {_THP_SWITCH}"
    return "free memory is scarce or in pieces, or prctl(PR_SET_THP_DISABLE) forbids it; tracking does not need it"


def _file_system(directory: str) -> str:
    """The type of the file system a directory is on; empty where the kernel does not tell, as on some overlays."""
    try:
        device = Path(directory).stat().st_dev
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    # id parent major:minor root mount-point options [optional...] - type source super-options
    return next((line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == number), "")
