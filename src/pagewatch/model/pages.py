"""Mapping folios: the references and map counts that a leaf stands for (``folio_add_*_rmap_pte`` and kin)."""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import DIRTY, SPECIAL, EntryFormat
from pagewatch.model.folioflags import set_dirty
from pagewatch.steps import RMW, access

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def folio_at(machine: "Machine", fmt: EntryFormat, entry: int) -> "Folio | None":
    """The ordinary folio behind a leaf; None for the zero page (``vm_normal_folio``)."""
    pfn = fmt.pfn(entry)
    if pfn == machine.memory.zero.pfn or fmt.flags(entry) & SPECIAL:
        return None
    return machine.memory.folio(pfn)


def zero_leaf(machine: "Machine", fmt: EntryFormat, flags: int) -> int:
    """A read-only leaf of the zero page."""
    if fmt.supported & SPECIAL:
        flags |= SPECIAL
    return fmt.leaf(machine.memory.zero.pfn, flags)


def map_anon(mm: "Mm", vma: "Vma", folio: "Folio", address: int, *, page: int = 0, n_pages: int = 1) -> None:
    """Count one more leaf of a new anonymous folio that nobody shares (``folio_add_new_anon_rmap``).

    The leaf takes over the caller's reference. The area has its root: :func:`~.rmap.prepare_anon_vma`.

    :param page: the first page of the folio that it maps, at ``address``. :param n_pages: how many.
    """
    if vma.anon_vma is None:
        raise AssertionError("prepared before the table was locked")
    folio.anon_vma = vma.anon_vma
    folio.index = vma.index_of(address, mm.machine.page_shift) - page
    folio.raw_exclusive.update(range(page, page + n_pages))  # nobody else can find it yet
    _count(folio, 1, "rmap: add anon")


def map_again(folio: "Folio") -> None:
    """Count one more leaf of a folio that is mapped or cached already; it takes over a reference."""
    _count(folio, 1, "rmap: add")


def unmap(folio: "Folio") -> None:
    """Count one leaf fewer (``folio_remove_rmap_pte``); the caller drops the leaf's reference."""
    _count(folio, -1, "rmap: remove")


def keep_dirty(folio: "Folio | None", fmt: EntryFormat, entry: int) -> None:
    """Carry a cleared leaf's dirty bit to its folio, which nobody else will know of then."""
    if folio is not None and fmt.flags(entry) & DIRTY:
        set_dirty(folio, "rmap: keep dirty")


def _count(folio: "Folio", change: int, label: str) -> None:
    access(("mapcount", folio.pfn), RMW, label)
    folio.raw_mapcount += change
