"""A process whose memory is looked at: this one or another."""

import os
import threading
from contextlib import suppress
from operator import index
from types import TracebackType

from pagewatch.linux.adapters import OtherScanner
from pagewatch.linux.maps import MapsReader, read_maps
from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.linux.proc import open_proc
from pagewatch.linux.remote.attach import Attachment, attach
from pagewatch.linux.userfaultfd import UserfaultFd, open_userfaultfd
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import InvalidArgument, NotPermitted, TrackerClosed
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.scan import Scan


class Process(Closing):
    """One address space, of this process or of another; a context manager.

    Scanning and reading another process need ptrace access to it. Protecting also needs :meth:`attach`.
    The object stays with the program it was opened on: after an exec or exit every call raises
    :class:`~pagewatch.vocab.errors.TargetGone`, even if the pid is used again.
    """

    def __init__(self, pid: int | None = None) -> None:
        """:param pid: None for this process.

        :raises TargetGone: no such process, or one without memory (a kernel thread, a zombie).
        :raises NotPermitted: ptrace access is needed and not granted.
        """
        own = os.getpid()
        self.pid = own if pid is None else _number(pid)
        self.is_self = self.pid == own
        self._lock = threading.Lock()
        self._uffd: UserfaultFd | None = None
        self._is_lent = False
        self._owner_pid = own
        self._maps = MapsReader(self.pid)
        try:
            self._scanner = PagemapScanner() if self.is_self else OtherScanner(self.pid)
        except BaseException:
            self._maps.close()
            raise

    def maps(self) -> tuple[Mapping, ...]:
        """All mappings, ascending; the same tuple as long as nothing changed. Cheap.

        :raises TargetGone: the process exited or replaced its memory by exec.
        """
        self._check_owner()
        return self._maps.mappings()

    def _check_owner(self) -> None:
        """What was opened before a fork looks at the parent's memory."""
        if os.getpid() != self._owner_pid:
            raise TrackerClosed(f"this Process belongs to process {self._owner_pid}; make a new one in a forked child")

    def maps_with_flags(self) -> list[Mapping]:
        """All mappings with their VmFlags; costs a walk over the page tables (smaps).

        :raises TargetGone: the process exited or replaced its memory by exec.
        """
        mappings = read_maps(self.pid)
        self._maps.check_alive()
        return mappings

    def scan(
        self,
        start: int,
        end: int,
        query: Query,
        *,
        protect: bool = False,
        require_armed: bool = False,
        max_pages: int = 0,
        max_regions: int | None = None,
    ) -> Scan:
        """PAGEMAP_SCAN of [start, end) (bytes; start page aligned), in as many calls as it takes.

        With ``protect``, pages that match and are WRITTEN are write-protected in the same step; this has effect
        in memory that a tracker has armed, and takes those pages from that tracker's next epoch. A hugetlb page
        that the range or ``max_pages`` cuts cannot be protected: its part in the range is reported and stays written.

        :param require_armed: fail where mapped memory is not under asynchronous write-protection.
        :param max_pages: stop after that many pages; 0 for no limit.
        :param max_regions: stop after that many regions; None for no limit.
        :raises RangeNotArmed: with ``require_armed``; carries what was scanned before.
        :raises TargetGone: the process exited or replaced its memory by exec.
        :raises InvalidArgument: a bad range or limit.
        :raises FeatureMissing: no PAGEMAP_SCAN (Linux before 6.7).
        """
        self._check_owner()
        with self._lock:
            return self._scanner.scan(
                start,
                end,
                query,
                protect=protect,
                require_armed=require_armed,
                max_pages=max_pages,
                max_regions=max_regions,
            )

    def read(self, start: int, n_bytes: int) -> bytes:
        """The bytes at [start, start + n_bytes). Reading does not count as writing.

        :raises InvalidArgument: not all of the range is mapped and readable.
        :raises TargetGone: the process exited or replaced its memory by exec.
        """
        self._check_owner()
        fd = open_proc(self.pid, "mem")
        try:
            data = _read_exactly(fd, start, n_bytes)
        finally:
            os.close(fd)
        # Asked after reading: the pid may have begun to run another program before it.
        self._maps.check_alive()
        if len(data) != n_bytes:
            raise InvalidArgument(f"{start + len(data):#x} is not readable; {len(data)} of {n_bytes} bytes were read")
        return data

    def attach(self) -> "Attached":
        """Make the process trackable: a context manager, ``with process.attach(): ...``.

        Takes a userfaultfd out of the target (one of its threads is stopped for about a millisecond, nothing is
        written into it) and gives it back on exit; the target is then as before.

        :raises CannotAttach: the target is in a state in which it cannot be touched safely; it says which.
        :raises NotPermitted: ptrace access is needed and not granted.
        """
        self._check_owner()
        if self._uffd is not None:
            raise InvalidArgument(f"process {self.pid} is attached already")
        if self.is_self:
            self._uffd = UserfaultFd(open_userfaultfd(), self.pid)
        else:
            self.adopt(attach(self.pid))
        return Attached(self)

    def adopt(self, attachment: Attachment) -> "Attached":
        """Take over an attachment that was made otherwise, such as by starting a program.

        :raises TargetGone: the target exited or replaced its memory by exec.
        """
        with attachment:
            self._uffd = UserfaultFd(attachment.take_uffd(), self.pid)
        # Both are of one address space if the one that was opened first still exists after the other was taken:
        # not if there was an exec in between, or another program has the pid by now.
        try:
            self._maps.check_alive()
        except BaseException:
            self.detach()
            raise
        return Attached(self)

    def lend_protection(self) -> UserfaultFd:
        """The attached userfaultfd, for one tracker at a time; the process keeps owning it.

        Two trackers would take each other's news: what one has collected, the other never sees.

        :raises NotPermitted: the process is not attached.
        :raises InvalidArgument: a tracker has it.
        """
        if self._is_lent:
            raise InvalidArgument(
                f"process {self.pid} has a tracker already: close that first, or give one tracker all ranges"
            )
        if self._uffd is None:
            raise NotPermitted(f"process {self.pid} is not attached", "use: with Process(pid) as p, p.attach(): ...")
        self._is_lent = True
        return self._uffd

    def take_back_protection(self) -> None:
        """The tracker is done with it."""
        self._is_lent = False

    def detach(self) -> None:
        """Lift all tracking from the process; doing so twice is no error."""
        if self._uffd is not None:
            self._uffd.close()
            self._uffd = None

    def close(self) -> None:
        """Detach and close all descriptors; closing twice is no error."""
        self.detach()
        self._scanner.close()
        self._maps.close()

    def __repr__(self) -> str:
        return f"<Process {self.pid}{' attached' if self._uffd else ''}>"


class Attached:
    """Leaving this context detaches the process."""

    def __init__(self, process: Process) -> None:
        """:param process: attached already."""
        self.process = process

    def __enter__(self) -> Process:
        return self.process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.detach()


def _number(pid: int) -> int:
    """A pid of any integer type, numpy's too."""
    with suppress(TypeError):
        if not isinstance(pid, bool) and index(pid) > 0:
            return index(pid)
    raise InvalidArgument(f"a pid is a positive number, not {pid!r}")


def _read_exactly(fd: int, start: int, n_bytes: int) -> bytes:
    if start < 0 or n_bytes < 0:
        raise InvalidArgument("start and length cannot be negative")
    parts = []
    position, left = start, n_bytes
    while left:
        try:
            part = os.pread(fd, min(left, 1 << 30), position)
        except (OSError, OverflowError):
            break
        if not part:
            break
        parts.append(part)
        position += len(part)
        left -= len(part)
    return b"".join(parts)
