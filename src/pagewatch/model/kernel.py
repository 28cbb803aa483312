"""The front: a kernel, its processes, and their system calls as methods."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pagewatch.model.areas import check_range, exit_mm, map_area, protect_areas, unmap_areas
from pagewatch.model.dirty_helpers import Bits, clean_record_shared_mapping_range, wp_shared_mapping_range
from pagewatch.model.errors import os_error
from pagewatch.model.explain import Story
from pagewatch.model.file import FileKind, FileMapping
from pagewatch.model.fork import fork_mm
from pagewatch.model.gup import pin_pages
from pagewatch.model.hugetlb.sizes import huge_page_bytes
from pagewatch.model.machine import Machine
from pagewatch.model.madvise import madvise
from pagewatch.model.migrate import migrate
from pagewatch.model.mm import Mm
from pagewatch.model.mmu import load, store
from pagewatch.model.mremap import mremap
from pagewatch.model.picture import text
from pagewatch.model.pins import Pin, Want
from pagewatch.model.poison import memory_failure, poisoned_addresses
from pagewatch.model.quirks import Quirks
from pagewatch.model.scan.call import ScanArg, ScanReply, pagemap_scan
from pagewatch.model.scan.draft import DraftArg, DraftReply
from pagewatch.model.scan.draft_walk import draft_scan
from pagewatch.model.scan.exact import flags_of, scan_range
from pagewatch.model.scan.words import pagemap_words
from pagewatch.model.softdirty import clear_refs
from pagewatch.model.truncate import punch_hole, truncate
from pagewatch.model.uffd.context import ALL_FEATURES, Context, Feature
from pagewatch.model.uffd.events import deliver, unmapped
from pagewatch.model.uffd.fd import Userfaultfd
from pagewatch.model.vma import VM_DONTEXPAND, VM_HUGETLB, VM_SHARED, Vma
from pagewatch.model.walk import for_each_leaf
from pagewatch.steps import observed
from pagewatch.vocab.query import Query
from pagewatch.vocab.scan import Scan

PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4


class Kernel:
    """A machine and its kernel. Cheap to make: an explorer makes one for every execution."""

    def __init__(self, arch: str = "x86_64", *, cpus: int = 1, quirks: Quirks | None = None) -> None:
        """:param arch: a key of ``pagewatch.model.arch.ARCHES``.

        :raises InvalidArgument: unknown arch.
        """
        self.machine = Machine(arch, cpus=cpus, quirks=quirks or Quirks())

    def spawn(self) -> "Process":
        """A process with nothing mapped."""
        return Process(self.machine.new_mm())

    def memfd(self, n_bytes: int, *, huge: str | None = None) -> FileMapping:
        """A file in memory; of huge pages with ``huge="2M"`` or whatever size the architecture has.

        :raises InvalidArgument: no such size; the error says which there are.
        :raises OSError: EINVAL for part of a huge page.
        """
        if huge is None:
            return FileMapping(self.machine, FileKind.SHMEM, n_bytes)
        page_bytes = huge_page_bytes(self.machine.fmt, huge)
        if n_bytes % page_bytes:
            raise os_error(errno.EINVAL, "ftruncate")
        return FileMapping(self.machine, FileKind.HUGETLB, n_bytes, page_bytes=page_bytes)

    def disk_file(self, n_bytes: int) -> FileMapping:
        """A file of a file system with a disk below; zeros at first."""
        return FileMapping(self.machine, FileKind.DISK, n_bytes)

    def truncate(self, file: FileMapping, n_bytes: int) -> None:
        """Set a file's size (``ftruncate``)."""
        truncate(file, n_bytes)

    def punch_hole(self, file: FileMapping, offset: int, n_bytes: int) -> None:
        """Make a byte range of a file zeros and give its pages back (``fallocate``)."""
        punch_hole(file, offset, n_bytes)

    def memory_failure(self, pfn: int) -> None:
        """A frame of memory has failed: what it held is lost, unless a file has it on disk."""
        memory_failure(self.machine, pfn)

    @contextmanager
    def explain(self, process: "Process", start: int, n_bytes: int = 1) -> Iterator[Story]:
        """Within the block, follow what happens to the pages of a range (bytes), and tell it in words.

        Works with and without a scheduler; ``print(story)`` afterwards.
        """
        story = Story(process.mm, start, start + n_bytes)
        with observed(story):
            yield story
        story.end()

    @property
    def log(self) -> list[str]:
        """What the kernel printed, oldest first."""
        return self.machine.log

    def wp_shared_mapping_range(self, mapping: FileMapping, first: int, count: int) -> int:
        """Make pages [first, first + count) of a file read-only in every shared mapping.

        :returns: how many entries were writable before.
        """
        return wp_shared_mapping_range(mapping, first, count)

    def clean_record_shared_mapping_range(  # noqa: PLR0917 - the kernel's own parameters, in its order
        self, mapping: FileMapping, first: int, count: int, bitmap_offset: int, bitmap: Bits, start: int, end: int
    ) -> tuple[int, int, int]:
        """Clear the dirty bits of pages [first, first + count) of a file in every shared mapping.

        They are recorded in ``bitmap`` (one item for each page from ``bitmap_offset`` on), and the bounds
        ``start`` and ``end`` of what it holds are widened; see
        :func:`~pagewatch.model.dirty_helpers.clean_record_shared_mapping_range`.

        :returns: (entries cleaned, start, end).
        """
        return clean_record_shared_mapping_range(mapping, first, count, bitmap_offset, bitmap, start, end)


class Process:
    """One process: its address space and its system calls. Addresses and lengths are bytes."""

    def __init__(self, mm: Mm) -> None:
        """:param mm: made by :meth:`Kernel.spawn`."""
        self.mm = mm

    def mmap(
        self,
        length: int,
        *,
        prot: int = PROT_READ | PROT_WRITE,
        shared: bool = False,
        file: FileMapping | None = None,
        offset: int = 0,
        at: int | None = None,
        huge: str | None = None,
    ) -> int:
        """Map memory and return its address; shared memory without a file gets one of its own.

        :param at: map exactly there, replacing what is there.
        :param huge: a page size such as "2M" (MAP_HUGETLB); lengths are rounded up to it. A file from
            ``memfd(huge=...)`` brings its own.
        :raises InvalidArgument: the architecture has no such page size; the error says which it has.
        :raises OSError: EINVAL, ENOMEM; EBUSY where an architecture cannot have pages of two sizes so close.
        """
        machine = self.mm.machine
        flags = VM_SHARED if shared else 0
        if huge is not None and file is None:
            page_bytes = huge_page_bytes(machine.fmt, huge)
            n_bytes = length + page_bytes - 1 & -page_bytes
            file = FileMapping(machine, FileKind.HUGETLB, n_bytes, page_bytes=page_bytes)
        elif shared and file is None:
            file = FileMapping(machine, FileKind.SHMEM, length)
        if file is not None and file.kind is FileKind.HUGETLB:
            # Nothing is reserved beyond what was mapped at first, so it cannot grow.
            flags |= VM_HUGETLB | VM_DONTEXPAND
        elif huge is not None:
            raise os_error(errno.EINVAL, "mmap")
        return map_area(
            self.mm,
            length,
            prot=prot,
            flags=flags,
            file=file,
            offset=offset,
            at=at,
            name="",
            page_bytes=machine.page_bytes if file is None else file.page_bytes,
        )

    def munmap(self, start: int, length: int) -> None:
        """Unmap a range; gaps in it are no error.

        :raises OSError: EINVAL.
        """
        end = check_range(self.mm, start, length, "munmap")
        with self.mm.write_locked():
            gone = unmap_areas(self.mm, start, end)
            events = unmapped(gone, start, end)
        deliver(events)

    def mprotect(self, start: int, length: int, prot: int) -> None:
        """Change access rights.

        :raises OSError: EINVAL, EACCES, ENOMEM at a gap (what is before it has changed).
        """
        protect_areas(self.mm, start, check_range(self.mm, start, length, "mprotect"), prot)

    def store(self, address: int, data: bytes, *, cpu: int = 0) -> None:
        """A user's store on a CPU.

        :raises Signal: it is not allowed.
        """
        store(self.mm, self.mm.machine.cpus[cpu], address, data)

    def load(self, address: int, n_bytes: int, *, cpu: int = 0) -> bytes:
        """A user's load on a CPU.

        :raises Signal: it is not allowed.
        """
        return load(self.mm, self.mm.machine.cpus[cpu], address, n_bytes)

    def userfaultfd(self, features: int = 0, *, user_mode_only: bool = False) -> Userfaultfd:
        """A userfaultfd after UFFDIO_API with these features.

        :raises OSError: EINVAL for an unknown feature.
        """
        if features & ~int(ALL_FEATURES):
            raise os_error(errno.EINVAL, "UFFDIO_API")
        return Userfaultfd(Context(self.mm, Feature(features), user_mode_only=user_mode_only))

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
        """PAGEMAP_SCAN of [start, end), with the results and errors of the live ``Process.scan``.

        :raises RangeNotArmed: with ``require_armed``; carries what was scanned before.
        :raises TargetGone: the process exited.
        :raises InvalidArgument: a bad range or limit.
        """
        flags = flags_of(protect=protect, require_armed=require_armed)
        return scan_range(self.mm, start, end, query, flags=flags, max_pages=max_pages, max_regions=max_regions)

    def pagemap_scan(self, arg: ScanArg) -> ScanReply:
        """The raw PAGEMAP_SCAN ioctl, kernel bugs included."""
        return pagemap_scan(self.mm, arg)

    def draft_pagemap_scan(self, arg: DraftArg) -> DraftReply:
        """PAGEMAP_SCAN as it was proposed in 2023; no released kernel has it."""
        return draft_scan(self.mm, arg)

    def pagemap(self, start: int, n_pages: int, *, show_frames: bool = False) -> list[int]:
        """The words of /proc/PID/pagemap for pages from ``start`` (bytes) on."""
        position = (start >> self.mm.machine.page_shift) * 8
        return pagemap_words(self.mm, position, n_pages * 8, show_frames=show_frames)

    def clear_refs(self, text: str) -> None:
        """Write to /proc/PID/clear_refs.

        :raises OSError: EINVAL, ESRCH.
        """
        clear_refs(self.mm, text)

    def madvise(self, start: int, length: int, advice: int) -> None:
        """Advise about a range; :class:`~pagewatch.model.madvise.Advice` names what there is.

        :raises OSError: EINVAL, ENOMEM and more, as the advice has it.
        """
        madvise(self.mm, start, length, advice)

    def mremap(self, old: int, old_length: int, new_length: int, *, flags: int = 0, target: int = 0) -> int:
        """Resize or move; returns the new address.

        :raises OSError: EINVAL, EFAULT, ENOMEM.
        """
        return mremap(self.mm, old, old_length, new_length, flags=flags, target=target)

    def fork(self) -> "Process":
        """A child with a copy of the address space."""
        return Process(fork_mm(self.mm))

    def migrate_to_device(self, start: int, n_bytes: int) -> list[int]:
        """Let a device's driver take over memory; the addresses of the pages that moved.

        A CPU's next access brings a page back. What is pinned, busy or a file's stays.
        """
        return migrate(self.mm, start, start + n_bytes)

    def poisoned_addresses(self, start: int, end: int) -> list[int]:
        """Pages of [start, end) whose memory failed, or is marked so; ascending."""
        return poisoned_addresses(self.mm, start, end)

    def pin(self, start: int, n_pages: int, want: Want = Want.WRITE, *, cpu: int = 0) -> Pin:
        """Pin pages from ``start`` (bytes) on for a device or for io_uring; fewer if not all can be had.

        :raises OSError: as :func:`~pagewatch.model.gup.get_user_pages`.
        """
        want |= Want.PIN
        machine = self.mm.machine
        return Pin(machine, pin_pages(self.mm, machine.cpus[cpu], start, n_pages, want), want)

    def exit(self) -> None:
        """End the process: its memory goes, later calls on its descriptors fail."""
        exit_mm(self.mm)

    def pinned_addresses(self) -> list[int]:
        """Pages that are pinned now, ascending (bytes); of a large folio all, if any is."""
        mm = self.mm
        return [
            address
            for vma in mm.vmas
            for leaf in for_each_leaf(mm, vma.start, vma.end)
            if (folio := mm.machine.memory.find(leaf.pfn)) is not None and folio.pincount
            for address in range(leaf.start, leaf.end, mm.machine.page_bytes)
        ]

    def picture(self, start: int, end: int) -> str:
        """The page tables of [start, end) as text; :func:`~pagewatch.model.picture.svg` draws them."""
        return text(self.mm, start, end)

    @property
    def areas(self) -> tuple[Vma, ...]:
        """Its areas, ascending."""
        return tuple(self.mm.vmas)
