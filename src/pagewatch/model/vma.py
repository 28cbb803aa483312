"""Virtual memory areas: what an address space maps where, and how areas split, merge and grow.

Two neighbours merge when nothing but their extent tells them apart: same permissions and flags (apart
from soft-dirty, which then spreads), same file at adjoining offsets, same userfaultfd, and anonymous
memory that may share a reverse-mapping root.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pagewatch.model.locks import RwLock

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.rmap import AnonVma
    from pagewatch.model.uffd.context import Context

VM_READ = 0x1
VM_WRITE = 0x2
VM_EXEC = 0x4
VM_SHARED = 0x8
VM_MAYREAD = 0x10
VM_MAYWRITE = 0x20
VM_MAYEXEC = 0x40
VM_GROWSDOWN = 0x100
VM_UFFD_MISSING = 0x200
VM_PFNMAP = 0x400
VM_MAYBE_GUARD = 0x800
VM_UFFD_WP = 0x1000
VM_LOCKED = 0x2000
VM_IO = 0x4000
VM_DONTCOPY = 0x20000
VM_DONTEXPAND = 0x40000
VM_ACCOUNT = 0x100000
VM_HUGETLB = 0x400000
VM_WIPEONFORK = 0x2000000
VM_SOFTDIRTY = 0x8000000
VM_MIXEDMAP = 0x10000000
VM_HUGEPAGE = 0x20000000
VM_NOHUGEPAGE = 0x40000000
VM_MERGEABLE = 0x80000000
VM_UFFD_MINOR = 0x2000000000
VM_DROPPABLE = 0x10000000000

VM_UFFD = VM_UFFD_MISSING | VM_UFFD_WP | VM_UFFD_MINOR
VM_ACCESS = VM_READ | VM_WRITE | VM_EXEC
VM_STICKY = VM_SOFTDIRTY | VM_MAYBE_GUARD
"""Flags that keep no areas apart: who merges has them afterwards."""
VM_SPECIAL = VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_DONTEXPAND


class Vma:
    """One area [start, end), in bytes."""

    __slots__ = (
        "anon_vma",
        "branch",
        "end",
        "file",
        "flags",
        "huge_lock",
        "inherited",
        "lock",
        "name",
        "number",
        "page_bytes",
        "pgoff",
        "start",
        "uffd",
    )

    def __init__(
        self,
        start: int,
        end: int,
        flags: int,
        *,
        number: int,
        page_bytes: int,
        pgoff: int,
        file: "FileMapping | None" = None,
        name: str = "",
    ) -> None:
        """:param number: unique in the machine. :param page_bytes: of its own page: more only for hugetlb.

        :param pgoff: offset in the file, or linear index of anonymous memory, in smallest pages.
        """
        self.start = start
        self.end = end
        self.flags = flags
        self.file = file
        self.number = number
        self.pgoff = pgoff
        self.page_bytes = page_bytes
        self.name = name
        self.anon_vma: AnonVma | None = None
        """Set by the first fault that gives it anonymous memory of its own; see :func:`.rmap.root_of`."""
        self.branch: int | None = None
        """What tells apart areas of one root when they could merge: each area of a fork begins its own branch."""
        self.inherited = False
        """Whether the root came over a fork (``vma_is_fork_child``)."""
        self.uffd: Context | None = None
        self.lock = RwLock(("vma", number), "vma lock")
        hugetlb = bool(flags & VM_HUGETLB)
        self.huge_lock = RwLock(("hugetlb vma", number), "hugetlb vma lock") if hugetlb else None
        """The hugetlb vma lock; gone when the area is being unmapped for good, and with it page table sharing."""

    @property
    def anonymous(self) -> bool:
        """Whether it has no file behind it (``vma_is_anonymous``); shared memory has one."""
        return self.file is None

    @property
    def private(self) -> bool:
        """Whether stores stay in this address space."""
        return not self.flags & VM_SHARED

    @property
    def hugetlb(self) -> bool:
        """Whether it maps hugetlbfs."""
        return bool(self.flags & VM_HUGETLB)

    @property
    def uffd_wp(self) -> bool:
        """Whether a userfaultfd watches it for write-protection (``userfaultfd_wp``)."""
        return bool(self.flags & VM_UFFD_WP)

    @property
    def uffd_armed(self) -> bool:
        """Whether it is watched in a way that rules out batched faults (``uffd_disable_fault_around``)."""
        return bool(self.flags & (VM_UFFD_WP | VM_UFFD_MINOR))

    @property
    def wp_async(self) -> bool:
        """Whether write-protection faults are resolved in place (``userfaultfd_wp_async``)."""
        return self.uffd is not None and self.uffd.wp_async

    @property
    def wp_markers(self) -> bool:
        """Whether protection of unpopulated memory is kept in markers (``userfaultfd_wp_use_markers``)."""
        if not self.uffd_wp:
            return False
        return not self.anonymous or (self.uffd is not None and self.uffd.wp_unpopulated)

    def index_of(self, address: int, page_shift: int) -> int:
        """Page offset in the file (or linear anonymous index) of an address (``linear_page_index``)."""
        return self.pgoff + (address - self.start >> page_shift)

    def address_of(self, index: int, page_shift: int) -> int:
        """The address of a page offset; it may lie outside the area (``vma_address``)."""
        return self.start + (index - self.pgoff << page_shift)

    def __repr__(self) -> str:
        return f"<Vma {self.start:#x}-{self.end:#x} flags={self.flags:#x}>"


class VmaSet:
    """The areas of one address space, ascending."""

    __slots__ = ("_ends", "_vmas")

    def __init__(self) -> None:
        self._vmas: list[Vma] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[Vma]:
        return iter(tuple(self._vmas))

    def __len__(self) -> int:
        return len(self._vmas)

    def find(self, address: int) -> Vma | None:
        """The first area that ends after the address; it may begin after it, too (``find_vma``)."""
        at = bisect_right(self._ends, address)
        return self._vmas[at] if at < len(self._vmas) else None

    def at(self, address: int) -> Vma | None:
        """The area that holds the address (``vma_lookup``)."""
        vma = self.find(address)
        return vma if vma is not None and vma.start <= address else None

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """Areas that have a byte in [start, end), ascending."""
        at = bisect_right(self._ends, start)
        found = []
        while at < len(self._vmas) and self._vmas[at].start < end:
            found.append(self._vmas[at])
            at += 1
        return found

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte of [start, end) is mapped."""
        for vma in self.overlapping(start, end):
            if vma.start > start:
                return False
            start = vma.end
        return start >= end

    def before(self, vma: Vma) -> Vma | None:
        """The neighbour that ends at or before the area's start."""
        at = self._vmas.index(vma)
        return self._vmas[at - 1] if at else None

    def after(self, vma: Vma) -> Vma | None:
        """The neighbour that begins at or after the area's end."""
        at = self._vmas.index(vma) + 1
        return self._vmas[at] if at < len(self._vmas) else None

    def insert(self, vma: Vma) -> None:
        """Add an area; its range must be free."""
        at = bisect_right(self._ends, vma.start)
        self._vmas.insert(at, vma)
        self._ends.insert(at, vma.end)

    def remove(self, vma: Vma) -> None:
        """Take an area out."""
        at = self._vmas.index(vma)
        del self._vmas[at], self._ends[at]

    def resize(self, vma: Vma, start: int, end: int) -> None:
        """Change an area's extent; ``pgoff`` follows its start. Bytes."""
        at = self._vmas.index(vma)
        vma.start, vma.end = start, end
        self._ends[at] = end

    def gap_below(self, top: int, n_bytes: int, alignment: int) -> int | None:
        """The highest free range of that size below ``top``: its start, or None."""
        end = top
        for vma in reversed(self._vmas):
            if vma.start >= top:
                continue
            start = end - n_bytes & -alignment
            if start >= vma.end:
                return start
            end = min(end, vma.start)
        start = end - n_bytes & -alignment
        return start if start > 0 else None


def can_merge(left: Vma, right: Vma, page_shift: int) -> bool:
    """Whether two areas that touch may become one (``can_vma_merge_after`` and its kin)."""
    return (
        left.end == right.start
        and (left.flags ^ right.flags) & ~VM_STICKY == 0
        and not left.flags & (VM_SPECIAL | VM_HUGETLB)
        and left.file is right.file
        and left.uffd is right.uffd
        and left.name == right.name
        and left.index_of(left.end, page_shift) == right.pgoff
        and _same_branch(left, right)
    )


def _same_branch(left: Vma, right: Vma) -> bool:
    """``is_mergeable_anon_vma``: what is inherited over a fork never spreads to an area without."""
    if left.branch is None or right.branch is None:
        return not left.inherited and not right.inherited
    return left.branch == right.branch
