"""What a page fault knows and how it can end (``struct vm_fault``, ``vm_fault_t``)."""

from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import EXEC, PROTNONE, UFFD_WP, USER, WRITE, YOUNG, EntryFormat
from pagewatch.model.rmap import prepare_anon_vma, root_of
from pagewatch.model.vma import (
    VM_ACCESS,
    VM_EXEC,
    VM_MAYWRITE,
    VM_READ,
    VM_SHARED,
    VM_SOFTDIRTY,
    VM_WRITE,
    Vma,
)
from pagewatch.model.walk import Spot, in_place, populate

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.uffd.context import Message


class Access(Enum):
    """Why memory is wanted."""

    READ = "read"
    WRITE = "write"
    UNSHARE = "unshare"
    """A read pin needs the page to be exclusive (``FAULT_FLAG_UNSHARE``); never combined with a write."""


class Outcome(Enum):
    """How one attempt to handle a fault ended."""

    DONE = "handled, or changed meanwhile: run the instruction again"
    RETRY = "needs the mmap lock, or lost a race: start over"
    SLEEP = "a userfaultfd was told; sleep until it answers"
    SIGBUS = "no memory there"
    SIGSEGV = "no mapping there, or a guard page"
    NOT_ALLOWED = "the mapping does not allow it"
    HWPOISON = "the memory failed, or is marked so"
    OOM = "no memory left"


class Fault:
    """One attempt to handle a fault; ``spot`` is the entry as first read, which later steps compare with."""

    __slots__ = ("access", "address", "exact", "message", "mm", "per_vma", "spot", "user", "vma")

    def __init__(self, mm: "Mm", vma: Vma, address: int, access: Access, *, user: bool, per_vma: bool) -> None:
        """:param user: the access comes from user mode. :param per_vma: only the area's lock is held."""
        self.mm = mm
        self.vma = vma
        self.exact = address
        self.address = address & -mm.machine.page_bytes
        self.access = access
        self.user = user
        self.per_vma = per_vma
        self.spot: Spot
        """Looked up by whoever handles the fault, before anything else is done."""
        self.message: Message | None = None
        """What the userfaultfd was told, for SLEEP."""

    @property
    def writing(self) -> bool:
        """Whether this is a write."""
        return self.access is Access.WRITE

    @property
    def fmt(self) -> EntryFormat:
        """The layout of the entry."""
        return self.spot.table.fmt

    @property
    def table(self) -> "Table":
        """The table of the entry."""
        return self.spot.table

    def have_table(self) -> bool:
        """Make the table of the entry if there is none yet; False where that found something mapped.

        Anonymous memory has it made first thing, a file only when there is a page to map.
        """
        if self.spot.level == 0:
            return True
        self.spot = populate(self.mm, self.address, "fault: make tables")
        return self.spot.level == 0 and not self.spot.entry

    def unchanged(self) -> bool:
        """Whether the entry is still what it was, in a table that still stands where it was found.

        The caller holds the table's lock (``pte_offset_map_lock``, ``vmf_pte_changed``).
        """
        spot = self.spot
        return in_place(spot) and spot.table.read(spot.slot, "fault: recheck") == spot.entry

    def set_entry(self, entry: int, label: str) -> None:
        """Replace the entry, under the table's lock."""
        self.spot.table.write(self.spot.slot, entry, label)
        self.spot = self.spot._replace(entry=entry)

    def was_wp(self) -> bool:
        """Whether the original entry was a write-protect marker of an area that honours it."""
        return self.vma.uffd_wp and entry_is_wp(self.fmt, self.spot.entry)


def entry_is_wp(fmt: EntryFormat, entry: int) -> bool:
    """Whether an entry of any kind is protected (``pte_uffd_wp``, ``pte_swp_uffd_wp_any``)."""
    return bool(fmt.flags(entry) & UFFD_WP)


def leaf_flags(machine: "Machine", vma: Vma) -> int:
    """Flags of a fresh leaf (``vm_page_prot``): writable at once only where no store needs a fault."""
    if not vma.flags & VM_ACCESS:
        return PROTNONE | YOUNG
    flags = YOUNG | machine.fmt.at[0].supported & (USER | EXEC if vma.flags & VM_EXEC else USER)
    if vma.flags & VM_SHARED and vma.flags & VM_WRITE and not wants_write_notify(machine, vma):
        flags |= WRITE
    return flags


def wants_write_notify(machine: "Machine", vma: Vma) -> bool:
    """Whether a first store to a clean page of a shared area must fault (``vma_wants_writenotify``)."""
    if vma.flags & (VM_SHARED | VM_WRITE) != VM_SHARED | VM_WRITE:
        return False
    return (
        vma.uffd_wp
        or (machine.quirks.soft_dirty and not vma.flags & VM_SOFTDIRTY and not vma.hugetlb)
        or (vma.file is not None and vma.file.tracks_dirty)
    )


def has_root(fault: Fault) -> bool:
    """Whether the area has a reverse-mapping root, which is made if the mmap lock is held (``vmf_anon_prepare``).

    Where only the area's lock is, the fault has to be tried again.
    """
    if fault.per_vma:
        return root_of(fault.vma, "fault: has the area a root?") is not None
    prepare_anon_vma(fault.mm, fault.vma)
    return True


def announcing_write(fault: Fault) -> AbstractContextManager[None]:
    """Tell the file that a page of it is made writable within (``do_page_mkwrite``); no table lock is held."""
    file = fault.vma.file
    if not fault.writing or file is None or not file.tracks_dirty or file.mkwrite is None:
        return nullcontext()
    return file.mkwrite(fault.vma.index_of(fault.address, fault.mm.machine.page_shift))


def maybe_mkwrite(fmt: EntryFormat, entry: int, vma: Vma) -> int:
    """Writable if the area is (``maybe_mkwrite``)."""
    return fmt.mkwrite(entry) if vma.flags & VM_WRITE else entry


def is_cow(vma: Vma) -> bool:
    """Whether stores go to private copies (``is_cow_mapping``)."""
    return vma.flags & (VM_SHARED | VM_MAYWRITE) == VM_MAYWRITE


def allows(vma: Vma, access: Access) -> bool:
    """Whether the area's permissions allow the access."""
    if access is Access.WRITE:
        return bool(vma.flags & VM_WRITE)
    return bool(vma.flags & (VM_READ | VM_WRITE | VM_EXEC))
