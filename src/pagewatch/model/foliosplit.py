"""Splitting a large folio into folios of one page each (mm/huge_memory.c, ``__folio_split``).

Splitting a leaf (:mod:`~pagewatch.model.thp`) changes who maps the folio how; this changes the folio. It
is needed where a part of it shall go another way than the rest: to swap, out of the file, to be dropped.

Every leaf is taken away first: a file's for good, an anonymous one's by a migration entry, which makes
faults wait. If then nobody but the caller holds the folio it can be split. Anonymous pages that turn out to
be all zeros are not given back their frames but the zero page.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import DIRTY, EXCLUSIVE, LEAF, MIGRATION, SOFT_DIRTY, UFFD_WP, WRITE, YOUNG
from pagewatch.model.fault.state import leaf_flags
from pagewatch.model.folioflags import is_exclusive
from pagewatch.model.memory import has_content
from pagewatch.model.migrate import restored_leaf
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, map_again, unmap, zero_leaf
from pagewatch.model.rmap import AnonVma, mappings_of
from pagewatch.model.thp import split_huge
from pagewatch.model.tlb import flush_range
from pagewatch.model.unmap import unmap_file_folio
from pagewatch.model.walk import Span, for_each_leaf, locked_spans

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma

_UNEVEN = YOUNG | DIRTY | SOFT_DIRTY | WRITE
"""Flags in which leaves of one run may differ."""


def split_large_folios(mm: "Mm", start: int, end: int, *, whole: bool, zero_pages: bool = True) -> None:
    """Split the large folios that [start, end) maps only in part, or not evenly; what is in use stays large.

    So do folios that others map, too, and huge zero pages (``madvise_free_pte_range`` and kin).

    :param whole: those that lie in the range with all their pages, too.
    :param zero_pages: whether of these, too, pages that are all zeros become the zero page.
    """
    machine = mm.machine
    found: dict[int, Folio] = {}
    longest: dict[int, int] = {}
    for folio, n_pages in _runs(mm, start, end):
        found[folio.pfn] = folio
        longest[folio.pfn] = max(n_pages, longest.get(folio.pfn, 0))
    for folio in found.values():
        partly = longest[folio.pfn] < folio.n_pages
        if (whole or partly) and not is_mapped_by_others(mm, folio):
            try_split_folio(machine, folio, zero_pages=zero_pages or partly)


def _runs(mm: "Mm", start: int, end: int) -> "Iterator[tuple[Folio, int]]":
    """Large anonymous folios of a range, each with pages that adjoin and have the same flags (``folio_pte_batch``)."""
    machine = mm.machine
    current: Folio | None = None
    n_pages, expected = 0, (0, 0)
    for leaf in for_each_leaf(mm, start, end, "split: look"):
        fmt, entry = leaf.spot.fmt, leaf.spot.entry
        folio = folio_at(machine, fmt, entry)
        if folio is None or not folio.order or not folio.anon or folio.hugetlb:
            continue
        seen = (leaf.pfn, fmt.flags(entry) & ~_UNEVEN)
        more = leaf.end - leaf.start >> machine.page_shift
        if folio is not current or seen != expected:
            if current is not None:
                yield current, n_pages
            current, n_pages = folio, 0
        n_pages += more
        expected = (leaf.pfn + more, seen[1])
    if current is not None:
        yield current, n_pages


def is_mapped_by_others(mm: "Mm", folio: "Folio") -> bool:
    """Whether another address space may map part of a folio (``folio_maybe_mapped_shared``)."""
    machine = mm.machine
    n_bytes = folio.n_pages << machine.page_shift
    for other, vma, address in mappings_of(machine, folio):
        if other is mm:
            continue
        for leaf in for_each_leaf(other, max(vma.start, address), min(vma.end, address + n_bytes), "split: others"):
            if folio_at(machine, leaf.spot.fmt, leaf.spot.entry) is folio:
                return True
    return False


def try_split_folio(machine: "Machine", folio: "Folio", *, at: int | None = None, zero_pages: bool = True) -> bool:
    """Split a folio if it is not locked and nobody holds it; says whether it was.

    :param at: the page of a file's folio that shall be alone, the rest in halves; without, all are alone.
    """
    if not machine.memory.try_get_folio(folio, "split: hold"):
        return False
    if not folio.lock.try_acquire():
        machine.memory.put(folio, "split: locked")
        return False
    if folio.anon_vma is not None:
        done = _split_anonymous(machine, folio, folio.anon_vma, zero_pages=zero_pages)
    else:
        done = folio.mapping is not None and _split_cached(folio, folio.mapping, at)
    folio.lock.release()
    if not done:
        machine.memory.put(folio, "split: in use")
    return done


def _split_cached(folio: "Folio", file: "FileMapping", at: int | None) -> bool:
    """A page-cache folio: it is mapped nowhere any more, and its parts take its place in the cache."""
    memory = file.machine.memory
    unmap_file_folio(file, folio)
    if not memory.freeze(folio, 2, "split: freeze"):  # the page cache's and ours
        return False
    parts = memory.split(folio, at)
    file.announce_replacement("split: replace in the page cache")
    for part in parts:
        file.insert(part.index, part)
    folio.mapping = None
    return True


def _split_anonymous(machine: "Machine", folio: "Folio", root: AnonVma, *, zero_pages: bool) -> bool:
    """Migration entries while it is split; leaves of the pages afterwards, or of the folio if it is in use."""
    memory = machine.memory
    with root.lock.exclusive:
        for mm, vma, span in _spans(machine, folio):
            _freeze(mm, vma, span, folio)
        frozen = memory.freeze(folio, 1, "split: freeze")
        pages = {page.pfn: page for page in memory.split(folio)} if frozen else {}
        for mm, vma, span in _spans(machine, folio):
            _thaw(mm, vma, span, folio, pages, zero_pages=zero_pages)
    for page in pages.values():
        memory.put(page, "split: release a part")  # those that are mapped nowhere go
    return frozen


def _spans(machine: "Machine", folio: "Folio") -> Iterator[tuple["Mm", "Vma", Span]]:
    """The pieces of tables that may map the folio, each locked and bracketed; huge leaves are split."""
    n_bytes = folio.n_pages << machine.page_shift
    for mm, vma, address in mappings_of(machine, folio):
        start, end = max(vma.start, address), min(vma.end, address + n_bytes)
        split_huge(mm, vma, start)
        with invalidating(mm, Event.CLEAR, start, end):
            for span in locked_spans(mm, start, end, "split: walk"):
                if span.spot.level == 0:
                    yield mm, vma, span


def _freeze(mm: "Mm", vma: "Vma", span: Span, folio: "Folio") -> None:  # noqa: ARG001 - as _thaw
    """Replace leaves of the folio by migration entries (``try_to_migrate``)."""
    table, fmt = span.spot.table, span.spot.table.fmt
    for index in span.indexes:
        entry = table.read(index, "split: look at entry")
        if fmt.kind(entry) != LEAF or folio_at(mm.machine, fmt, entry) is not folio:
            continue
        entry = table.exchange(index, 0, "split: clear entry")
        flags = fmt.flags(entry) & (WRITE | YOUNG | DIRTY | SOFT_DIRTY | UFFD_WP)
        if not flags & WRITE and is_exclusive(folio, fmt.pfn(entry) - folio.pfn, "split: exclusive?"):
            flags |= EXCLUSIVE
        table.write(index, fmt.pfn_entry(MIGRATION, fmt.pfn(entry), flags), "split: migration entry")
        unmap(folio)
        mm.machine.memory.put(folio, "split: one leaf fewer")
    flush_range(mm, span.start, span.end)


def _thaw(mm: "Mm", vma: "Vma", span: Span, folio: "Folio", pages: "dict[int, Folio]", *, zero_pages: bool) -> None:
    """Replace the migration entries by leaves again (``remove_migration_ptes``)."""
    table, fmt, machine = span.spot.table, span.spot.table.fmt, mm.machine
    for index in span.indexes:
        entry = table.read(index, "split: look at migration entry")
        if fmt.kind(entry) != MIGRATION or not 0 <= fmt.pfn(entry) - folio.pfn < folio.n_pages:
            continue
        pfn, flags = fmt.pfn(entry), fmt.flags(entry)
        owner = pages.get(pfn, folio)
        if pages and zero_pages and not has_content(owner, 0):
            leaf = zero_leaf(machine, fmt, leaf_flags(machine, vma))
            leaf = fmt.mkuffd_wp(leaf) if flags & UFFD_WP else leaf
        else:
            machine.memory.get(owner, "split: a reference for the leaf")
            map_again(owner)
            leaf = restored_leaf(mm, vma, pfn, flags)
        table.write(index, leaf, "split: map again")
