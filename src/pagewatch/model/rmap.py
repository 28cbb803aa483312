"""Reverse mapping: from a folio to the leaves that map it.

A family of anonymous areas (those split, moved or forked from one another) shares one root that lists
them; a folio remembers its root and its linear index in it. The list may name areas that do not map the
folio: who walks it looks at the entry. File folios are found through their mapping's ``i_mmap``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF
from pagewatch.model.locks import RwLock
from pagewatch.model.vma import VM_ACCESS, VM_STICKY
from pagewatch.model.walk import frame_of, seek
from pagewatch.steps import READ, RMW, access

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


class AnonVma:
    """The root of a family of anonymous areas."""

    __slots__ = ("areas", "lock")

    def __init__(self, number: int) -> None:
        """:param number: unique in the machine."""
        self.areas: list[tuple[Mm, Vma]] = []
        self.lock = RwLock(("anon_vma", number), "anon_vma lock")

    def add(self, mm: "Mm", vma: "Vma") -> None:
        """List an area."""
        self.areas.append((mm, vma))

    def remove(self, vma: "Vma") -> None:
        """Take an area off the list."""
        self.areas = [(mm, listed) for mm, listed in self.areas if listed is not vma]


def root_of(vma: "Vma", label: str) -> AnonVma | None:
    """The area's root now; once it has one it keeps it, as long as the caller's lock on the area is held."""
    access(("area", vma.number), READ, label)
    return vma.anon_vma


def prepare_anon_vma(mm: "Mm", vma: "Vma") -> AnonVma:
    """The area's root, made or taken over from a neighbour it could merge with (``anon_vma_prepare``).

    The caller holds the mmap lock, maybe with others, and no lock of a table: the root's comes first.
    """
    root = root_of(vma, "rmap: has the area a root?")
    if root is not None:
        return root
    neighbour = _mergeable_neighbour(mm, vma)
    root = (neighbour.anon_vma if neighbour else None) or AnonVma(mm.machine.new_number())
    branch = mm.machine.new_number() if neighbour is None else neighbour.branch
    with root.lock.exclusive:
        access(("area", vma.number), RMW, "rmap: give the area a root")
        if vma.anon_vma is None:  # else another fault was faster
            vma.branch, vma.anon_vma = branch, root
            root.add(mm, vma)
    return vma.anon_vma


def _mergeable_neighbour(mm: "Mm", vma: "Vma") -> "Vma | None":
    """``find_mergeable_anon_vma``: a neighbour that differs in access rights at most, and has a root of its own."""
    shift = mm.machine.page_shift
    for left, right in ((vma, mm.vmas.after(vma)), (mm.vmas.before(vma), vma)):
        if (
            left is not None
            and right is not None
            and left.end == right.start
            and left.file is right.file
            and (left.flags ^ right.flags) & ~(VM_ACCESS | VM_STICKY) == 0
            and left.index_of(left.end, shift) == right.pgoff
        ):
            neighbour = right if left is vma else left
            if root_of(neighbour, "rmap: has the neighbour a root?") is not None and not neighbour.inherited:
                return neighbour
    return None


def page_mapcount(machine: "Machine", folio: "Folio", page: int) -> int:
    """How many leaves map one page of a folio (``folio_precise_page_mapcount``)."""
    if not folio.order:
        return machine.memory.count_maps(folio, "rmap: count leaves")
    count = 0
    for mm, vma, address in mappings_of(machine, folio):
        at = address + (page << machine.page_shift)
        if vma.start <= at < vma.end:
            spot = seek(mm, at, "rmap: look")
            count += spot.kind == LEAF and frame_of(spot.fmt, spot.entry, at) == folio.pfn + page
    return count


def mappings_of(machine: "Machine", folio: "Folio") -> Iterator[tuple["Mm", "Vma", int]]:
    """Where a folio may be mapped: address space, area, address of its first page there.

    The caller holds the lock of the root or of ``i_mmap``.
    """
    if folio.anon_vma is not None:
        areas = folio.anon_vma.areas
    elif folio.mapping is not None:
        areas = folio.mapping.areas
    else:
        return
    for mm, vma in tuple(areas):
        address = vma.address_of(folio.index, machine.page_shift)
        n_bytes = folio.n_pages << machine.page_shift
        if address < vma.end and vma.start < address + n_bytes:
            yield mm, vma, address


@contextmanager
def rmap_locked(folio: "Folio") -> Iterator[None]:
    """Hold the lock of whatever lists the areas that map a folio (``rmap_walk``).

    Whoever unmaps an area takes it off the list before its tables are freed; so those found stay.
    """
    owner = folio.anon_vma.lock if folio.anon_vma else folio.mapping.i_mmap_lock if folio.mapping else None
    if owner is None:
        yield
        return
    with owner.shared:
        yield
