"""Files and their page cache (``struct address_space``): memfd, disk-like and hugetlbfs.

A file's bytes live in page-cache folios that every mapping shares. A disk-like file has a copy of its
own below them, so clean folios can be dropped and read again; a memfd's dropped folios go to swap.
"""

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from typing import TYPE_CHECKING

from pagewatch.model.errors import os_error
from pagewatch.model.folioflags import clear_dirty, set_dirty
from pagewatch.model.locks import Lock, RwLock
from pagewatch.model.memory import Folio, Words, copied_words, load_bytes, store_bytes
from pagewatch.model.swap import Swap
from pagewatch.steps import READ, RMW, WAIT, Whole, access, wait

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


class FileKind(Enum):
    """Where a file's bytes are when they are not in the page cache."""

    SHMEM = "memfd, tmpfs and shared anonymous memory: in swap"
    DISK = "a file system: on disk"
    HUGETLB = "hugetlbfs: always in the page cache"
    SECRET = "memfd_secret: nowhere; the kernel itself keeps off it"  # noqa: S105 - not a password
    DAX = "persistent memory: always in place"


class FileMapping:
    """One open file, for ``mmap(file=...)``, and its page cache. Made by :class:`~pagewatch.model.Kernel`."""

    def __init__(self, machine: "Machine", kind: FileKind, n_bytes: int, *, page_bytes: int = 0) -> None:
        """:param page_bytes: hugetlbfs only, its page size.

        :param n_bytes: the file's size; accesses beyond its last page end in SIGBUS.
        """
        number = machine.new_number()
        self.machine = machine
        machine.files.append(self)
        self.kind = kind
        self.number = number
        self.n_bytes = n_bytes
        self.page_bytes = page_bytes or machine.page_bytes
        self.step_pages = self.page_bytes // machine.page_bytes
        """Page offsets from one entry of the page cache to the next: hugetlbfs counts whole huge pages."""
        self.folios: dict[int, Folio] = {}
        """Page cache: page offset -> folio; every page of a large folio is listed, but a huge page only once."""
        self.swapped: dict[int, int] = {}
        """Swapped-out pages of a memfd: page offset -> slot."""
        self.disk: dict[int, Words] = {}
        """Bytes below the page cache of a disk-like file: page offset -> words."""
        self.areas: list[tuple[Mm, Vma]] = []
        """Every area that maps it (``i_mmap``)."""
        self.i_mmap_lock = RwLock(("i_mmap", number), "i_mmap lock")
        self.fault_mutexes: dict[int, Lock] = {}
        """hugetlbfs: one per huge page, by its page offset; made on demand."""
        self.tracks_dirty = kind is FileKind.DISK
        """Whether a first store through a shared mapping must fault, to be announced (``mkwrite``)."""
        self.mkwrite: Callable[[int], AbstractContextManager[None]] | None = None
        """Told the page offset before its entry becomes writable (``vm_ops->page_mkwrite``). It may wait, and
        may keep a lock until the entry is writable, as a hook does that returns with the page locked."""

    @property
    def n_pages(self) -> int:
        """Page offsets below this one exist."""
        return -(-self.n_bytes >> self.machine.page_shift)

    def cached(self, index: int) -> Folio | None:
        """The page-cache folio of a page offset, if there is one; no reference is taken."""
        access(("cache", self.number, index), READ, "page cache: look up")
        return self.folios.get(index - index % self.step_pages)

    def bring_in(self, index: int) -> Folio:
        """The folio of a page offset, read or allocated if need be, with a reference for the caller."""
        index -= index % self.step_pages
        while True:
            access(("cache", self.number, index), RMW, "page cache: find or add")
            folio = self.folios.get(index) or self._read_in(index)
            if self._try_get(index, folio):
                return folio

    def _read_in(self, index: int) -> Folio:
        """A new folio in the cache, with the bytes of swap or disk."""
        folio = self.new_folio()
        slot = self.swapped.pop(index, None)
        if slot is not None:
            folio.words[0] = dict(self.machine.swap.slots[slot])  # nobody else knows of the slot
            folio.raw_dirty = True
        elif index in self.disk:
            folio.words[0] = dict(self.disk[index])
        self.insert(index, folio)  # in the step in which it was found missing
        if slot is not None:
            self.machine.swap.release(self.machine.memory, slot)
        return folio

    def _try_get(self, index: int, folio: Folio) -> bool:
        """Take a reference to what was just looked up, unless it has left the cache (``filemap_get_entry``).

        While it is frozen, to be split, the kernel looks again and again.
        """
        memory = self.machine.memory
        if not memory.try_get_folio(folio, "page cache: get"):
            key = ("cache", self.number, index)
            wait(key, WAIT, "page cache: wait for another folio", lambda: self.folios.get(index) is not folio)
            return False
        access(("cache", self.number, index), READ, "page cache: look again")
        if self.folios.get(index) is folio:
            return True
        memory.put(folio, "page cache: put")
        return False

    def lock_cached(self, index: int) -> Folio | None:
        """The cached folio of a page offset, locked and with a reference; None if there is none, or it moved.

        ``filemap_lock_folio``: a folio may leave the cache while one waits for its lock.
        """
        folio = self.cached(index)
        if folio is None or not self._try_get(index, folio):
            return None
        folio.lock.acquire()
        if folio.mapping is self:
            return folio
        folio.lock.release()
        self.machine.memory.put(folio, "page cache: put")
        return None

    def new_folio(self) -> Folio:
        """A zeroed folio of the size that this file's page cache counts in."""
        folio = self.machine.memory.alloc(self.step_pages.bit_length() - 1)
        folio.hugetlb = self.kind is FileKind.HUGETLB
        return folio

    def insert(self, index: int, folio: Folio) -> None:
        """Put a folio into the cache; the cache takes over the caller's reference."""
        folio.mapping = self
        folio.index = index
        for page in range(0, folio.n_pages, self.step_pages):
            self.folios[index + page] = folio

    def announce_replacement(self, label: str) -> None:
        """Announce that folios of many page offsets are looked at and replaced, as under the lock of the tree."""
        access(Whole(("cache", self.number)), RMW, label)

    def remove(self, folio: Folio, label: str, slot: int | None = None) -> None:
        """Take a folio out of the cache and drop the cache's reference (``filemap_remove_folio``).

        :param slot: where in swap the page is from now on.
        """
        for page in range(0, folio.n_pages, self.step_pages):
            access(("cache", self.number, folio.index + page), RMW, label)
            self.folios.pop(folio.index + page, None)
            if slot is not None:
                self.swapped[folio.index + page] = slot
        folio.mapping = None
        self.machine.memory.put(folio, label)

    def _is_hole(self, index: int) -> bool:
        cached = index - index % self.step_pages in self.folios or index in self.swapped
        return self.kind in (FileKind.SHMEM, FileKind.HUGETLB) and not cached

    def extend(self, n_bytes: int) -> None:
        """Let the file end there if it ends before.

        Stores through mappings may have left something behind the old end. In a file on disk it must not come to
        light as part of the file; a memfd keeps it.
        """
        index, inside = divmod(self.n_bytes, self.machine.page_bytes)
        if n_bytes <= self.n_bytes:
            return
        if self.kind is FileKind.DISK and inside and (self.cached(index) or index in self.disk):
            self.zero_part(self.n_bytes, self.machine.page_bytes - inside)
        self.n_bytes = n_bytes

    def zero_part(self, offset: int, n_bytes: int) -> None:
        """Zero bytes within one page."""
        index, inside = divmod(offset, self.machine.page_bytes)
        folio = self.bring_in(index)
        store_bytes(folio, index - folio.index, inside, bytes(n_bytes), "zero part of a page")
        set_dirty(folio, "zero: dirty")
        self.machine.memory.put(folio, "zero: put")

    def write(self, offset: int, data: bytes) -> int:
        """``pwrite``: through the page cache, past every mapping; extends the file. Returns the count.

        :raises OSError: EINVAL for hugetlbfs, which can only be mapped.
        """
        if self.kind is FileKind.HUGETLB:
            raise os_error(errno.EINVAL, "write")
        self.extend(offset + len(data))
        position = 0
        while position < len(data):
            index, inside = divmod(offset + position, self.machine.page_bytes)
            part = data[position : position + self.machine.page_bytes - inside]
            folio = self.bring_in(index)
            with folio.lock:
                stands = folio.mapping is self  # it may have been replaced by a huge one
                if stands:
                    store_bytes(folio, index - folio.index, inside, part, "write: copy in")
                    set_dirty(folio, "write: dirty")
                    position += len(part)
            self.machine.memory.put(folio, "write: put")
        return position

    def read(self, offset: int, n_bytes: int) -> bytes:
        """``pread``: as many bytes as there are before the end of the file."""
        n_bytes = max(0, min(n_bytes, self.n_bytes - offset))
        parts = []
        while n_bytes:
            index, inside = divmod(offset, self.machine.page_bytes)
            n_part = min(n_bytes, self.machine.page_bytes - inside)
            if self._is_hole(index):
                parts.append(bytes(n_part))  # a hole stays one (``shmem_file_read_iter``)
            else:
                folio = self.bring_in(index)
                parts.append(load_bytes(folio, index - folio.index, inside, n_part, "read: copy out"))
                self.machine.memory.put(folio, "read: put")
            offset += n_part
            n_bytes -= n_part
        return b"".join(parts)

    def swap_out(self, index: int, swap: Swap) -> None:
        """Move one page of a memfd to swap; it is mapped nowhere any more (``shmem_writeout``)."""
        folio = self.folios[index]
        slot = swap.write_out(folio.words.get(index - folio.index, {}))
        self.remove(folio, "reclaim: page cache", slot)

    def write_back(self, index: int) -> None:
        """Copy a page to disk; the folio is clean until it is written again. Entries are the caller's business."""
        folio = self.folios[index]
        clear_dirty(folio, "write back: clean")  # first: what is written meanwhile makes it dirty again
        self.disk[index] = copied_words(folio, index - folio.index, "write back: copy")

    def __repr__(self) -> str:
        return f"<FileMapping {self.kind.name.lower()} #{self.number}, {self.n_bytes} bytes>"
