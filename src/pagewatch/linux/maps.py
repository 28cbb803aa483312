"""/proc/PID/maps and smaps as :class:`~pagewatch.vocab.mapping.Mapping` values."""

import contextlib
import os
import re
from dataclasses import replace

from pagewatch.linux.abi.pagemap import PROCMAP_QUERY, PROCMAP_QUERY_COVERING_OR_NEXT_VMA, procmap_query
from pagewatch.linux.proc import ADDRESS_SPACE_GONE, open_proc, read_whole
from pagewatch.linux.syscalls import ioctl
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import TargetGone, TrackerClosed
from pagewatch.vocab.mapping import Mapping

_LINE = re.compile(
    rb"^([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][ps]) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)$",
    re.MULTILINE,
)
_SMAPS_PAGE = re.compile(rb"^KernelPageSize: +(\d+) kB$", re.MULTILINE)
_SMAPS_FLAGS = re.compile(rb"^VmFlags:(.*)$", re.MULTILINE)


class MapsReader(Closing):
    """Reads one process's mappings again and again, cheaply; owns its descriptor.

    The descriptor belongs to the address space it was opened on: after an exec or exit reading it raises
    TargetGone, even if another program now has the pid.
    """

    def __init__(self, pid: int | None = None) -> None:
        """:param pid: the process to look at; None for this one."""
        self.pid = os.getpid() if pid is None else pid
        self._fd = open_proc(self.pid, "maps")
        self._text = b""
        self._mappings: tuple[Mapping, ...] = ()

    def mappings(self) -> tuple[Mapping, ...]:
        """All mappings, ascending, each with its own page size. The same tuple as long as nothing changed.

        :raises TargetGone: the process exited or replaced its memory by exec.
        """
        text = read_whole(self._descriptor())
        if not text:
            raise TargetGone(self.pid, ADDRESS_SPACE_GONE)
        if text != self._text:
            parsed = untorn([_parse_line(match) for match in _LINE.finditer(text)])
            self._mappings = tuple(replace(m, page_size=self._page_size(m)) if m.inode else m for m in parsed)
            self._text = text
        return self._mappings

    def check_alive(self) -> None:
        """See that the address space still exists.

        :raises TargetGone: the process exited or replaced its memory by exec.
        """
        with contextlib.suppress(ProcessLookupError):  # it ended and was waited for; before that, it reads as empty
            if os.pread(self._descriptor(), 1, 0):
                return
        raise TargetGone(self.pid, ADDRESS_SPACE_GONE)

    def _descriptor(self) -> int:
        if self._fd < 0:
            raise TrackerClosed("the process was closed")
        return self._fd

    def close(self) -> None:
        """Close the descriptor; closing twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _page_size(self, mapping: Mapping) -> int:
        """Asked for files only: hugetlb memory always has one, a hidden one if it is anonymous."""
        start = mapping.start
        query = procmap_query(size=104, query_flags=PROCMAP_QUERY_COVERING_OR_NEXT_VMA, query_addr=start)
        try:
            ioctl(self._descriptor(), PROCMAP_QUERY, query)
        except OSError:
            # Before Linux 6.11, or the mapping went away in between.
            return _smaps_page_size(self.pid, start)
        return int(query.vma_page_size) if query.vma_start == start else PAGE_SIZE


def read_maps(pid: int | None = None) -> list[Mapping]:
    """All mappings of a process with their VmFlags, ascending.

    Costs a walk over the process's page tables (smaps); :class:`MapsReader` does not.

    :raises TargetGone: no such process, or one without memory.
    :raises NotPermitted: ptrace access is needed and not granted.
    """
    pid = os.getpid() if pid is None else pid
    return parse_smaps(_read_smaps(pid))


def untorn(mappings: list[Mapping]) -> list[Mapping]:
    """Mappings that do not overlap. The kernel gives its text in pieces, and what grew in between comes twice."""
    kept: list[Mapping] = []
    for mapping in mappings:
        low = kept[-1].end if kept else 0
        if mapping.end > low:
            kept.append(mapping if mapping.start >= low else replace(mapping, start=low))
    return kept


def parse_smaps(text: bytes) -> list[Mapping]:
    """Mappings of the text of /proc/PID/smaps (or maps), with page sizes and flags as far as they are given."""
    heads = list(_LINE.finditer(text))
    ends = [*(head.start() for head in heads[1:]), len(text)]
    return [_with_details(_parse_line(head), text[head.end() : end]) for head, end in zip(heads, ends, strict=False)]


def _parse_line(match: re.Match[bytes]) -> Mapping:
    start, end, permissions, offset, device, inode, name = match.groups()
    return Mapping(
        start=int(start, 16),
        end=int(end, 16),
        permissions=permissions.decode(),
        offset=int(offset, 16),
        device=device.decode(),
        inode=int(inode),
        name=name.decode("utf-8", "backslashreplace"),
    )


def _with_details(mapping: Mapping, smaps_body: bytes) -> Mapping:
    size = _SMAPS_PAGE.search(smaps_body)
    flags = _SMAPS_FLAGS.search(smaps_body)
    return replace(
        mapping,
        page_size=int(size[1]) * 1024 if size else PAGE_SIZE,
        flags=frozenset(flags[1].decode().split()) if flags else None,
    )


def _read_smaps(pid: int) -> bytes:
    fd = open_proc(pid, "smaps")
    try:
        text = read_whole(fd)
    finally:
        os.close(fd)
    if not text:
        raise TargetGone(pid, "has no memory (a kernel thread, or it is exiting)")
    return text


def _smaps_page_size(pid: int, start: int) -> int:
    return next((m.page_size for m in parse_smaps(_read_smaps(pid)) if m.start == start), PAGE_SIZE)
