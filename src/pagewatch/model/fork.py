"""fork: copying an address space (``dup_mmap``, ``copy_page_range``).

Private pages are shared read-only until one side writes. A pinned page cannot be shared: whoever pinned
it must go on seeing the parent's writes, so the child gets a copy at once.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    DEVICE,
    EXCLUSIVE,
    LEAF,
    MARKER,
    MARKER_UFFD_WP,
    MIGRATION,
    SWAP,
    UFFD_WP,
    WRITE,
)
from pagewatch.model.areas import link
from pagewatch.model.fault.state import is_cow, leaf_flags, maybe_mkwrite
from pagewatch.model.folioflags import clear_exclusive, is_exclusive
from pagewatch.model.hugetlb.fork import copy_huge
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, map_again, map_anon
from pagewatch.model.thp import split_locked
from pagewatch.model.tlb import flush_mm
from pagewatch.model.uffd.context import Context, Feature
from pagewatch.model.uffd.events import deliver, forked
from pagewatch.model.vma import (
    VM_DONTCOPY,
    VM_LOCKED,
    VM_MAYBE_GUARD,
    VM_MIXEDMAP,
    VM_PFNMAP,
    VM_SHARED,
    VM_UFFD,
    VM_WIPEONFORK,
    Vma,
)
from pagewatch.model.walk import locked_spans, populate
from pagewatch.steps import RMW, access

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.walk import Spot


def fork_mm(parent: "Mm") -> "Mm":
    """A copy of an address space; the parent's entries become read-only where they are shared now."""
    child = parent.machine.new_mm()
    contexts: dict[Context, Context] = {}
    with parent.write_locked():
        for vma in parent.vmas:
            if vma.flags & VM_DONTCOPY:
                continue
            parent.lock_vma(vma)
            copy = _copy_area(child, vma, contexts)
            link(child, copy)
            if not vma.flags & VM_WIPEONFORK and _has_to_copy(vma, copy):
                _copy_entries(parent, child, vma, copy)
        flush_mm(parent)
    deliver([forked(theirs, ours) for theirs, ours in contexts.items()])
    return child


def _copy_area(child: "Mm", vma: Vma, contexts: dict[Context, Context]) -> Vma:
    copy = Vma(
        vma.start,
        vma.end,
        vma.flags & ~VM_LOCKED,
        number=child.machine.new_number(),
        page_bytes=vma.page_bytes,
        pgoff=vma.pgoff,
        file=vma.file,
        name=vma.name,
    )
    if not vma.flags & VM_WIPEONFORK:
        copy.anon_vma = vma.anon_vma
        if vma.anon_vma is not None:
            copy.branch, copy.inherited = child.machine.new_number(), True
    if vma.uffd is not None and vma.uffd.features & Feature.EVENT_FORK:
        copy.uffd = contexts.setdefault(vma.uffd, Context(child, vma.uffd.features))
    else:
        copy.flags &= ~VM_UFFD
    return copy


def _has_to_copy(vma: Vma, copy: Vma) -> bool:
    """Plain file pages fault in again as well; what only the entries know must be copied (``vma_needs_copy``)."""
    return copy.uffd_wp or vma.anon_vma is not None or bool(vma.flags & (VM_PFNMAP | VM_MIXEDMAP | VM_MAYBE_GUARD))


def _copy_entries(parent: "Mm", child: "Mm", vma: Vma, copy: Vma) -> None:
    access(("fork", parent.id), RMW, "fork: write-protect begins")
    parent.write_protect_seq += 1
    if vma.hugetlb:
        copy_huge(parent, child, vma, copy)
    else:
        _copy_small(parent, child, vma, copy)
    access(("fork", parent.id), RMW, "fork: write-protect ends")
    parent.write_protect_seq += 1


def _copy_small(parent: "Mm", child: "Mm", vma: Vma, copy: Vma) -> None:
    with invalidating(parent, Event.PROTECTION_PAGE, vma.start, vma.end):
        for span in locked_spans(parent, vma.start, vma.end, "fork: walk"):
            level = span.spot.level
            if span.hole or (level and not vma.anonymous):
                # A file's huge leaf is found again by the child's faults; the tables above it are made at once.
                populate(child, span.start, "fork: make upper tables", level)
                continue
            if level and _is_pinned(parent.machine, span.spot):
                split_locked(parent, vma, span.spot, span.start)
                continue
            # A table for a table, even where nothing stands in it.
            target = populate(child, span.start, "fork: make tables", level).table
            address = span.start
            for index in span.indexes:
                if span.spot.table.read(index, "fork: read"):
                    _copy_entry(child, copy, span.spot._replace(slot=index), target, address)
                address += parent.machine.page_bytes


def _is_pinned(machine: "Machine", spot: "Spot") -> bool:
    """Whether a huge leaf cannot be shared as a whole: a page of it may be pinned (``copy_huge_pmd``)."""
    folio = folio_at(machine, spot.fmt, spot.entry) if spot.kind == LEAF else None
    if folio is None or not is_exclusive(folio, 0, "fork: exclusive?", folio.n_pages):
        return False
    return machine.memory.look_for_pins(folio, "fork: look for pins")


def _copy_entry(child: "Mm", copy: Vma, source: "Spot", target: "Table", address: int) -> None:
    table, index, fmt = source.table, source.slot, source.fmt
    entry = table.read(index, "fork: copy")
    kind = fmt.kind(entry)
    if kind == LEAF:
        copied = _copy_leaf(child, copy, table, index, address)
    elif kind == MARKER:
        copied = _copied_marker(copy, source._replace(entry=entry))
    else:
        copied = _copied_absent(child, copy, table, index)
    if copied:
        target.write(index, copied, "fork: set")


def _copy_leaf(child: "Mm", copy: Vma, table: "Table", index: int, address: int) -> int:
    """Share a leaf, or copy its page where it is pinned (``copy_present_ptes``)."""
    fmt, machine = table.fmt, child.machine
    entry = table.read(index, "fork: copy")
    folio = folio_at(machine, fmt, entry)
    if folio is not None:
        page = fmt.pfn(entry) - folio.pfn
        n_pages = 1 << fmt.shift - machine.page_shift
        exclusive = is_exclusive(folio, page, "fork: exclusive?", n_pages)
        if exclusive and machine.memory.look_for_pins(folio, "fork: look for pins"):
            return _copy_pinned(child, copy, fmt.pfn(entry), folio, address)
        machine.memory.get(folio, "fork: share")
        map_again(folio)
        if exclusive:
            clear_exclusive(folio, page, "fork: not exclusive any more", n_pages)
    if is_cow(copy) and fmt.flags(entry) & WRITE:
        # Hardware may set dirty until the entry is read-only.
        entry = fmt.wrprotect(table.take_out(index, "fork: take out"))
        table.write(index, entry, "fork: write-protect")
    if copy.flags & VM_SHARED:
        entry = fmt.mkclean(entry)
    if fmt.flags(entry) & UFFD_WP and not copy.uffd_wp:
        entry = fmt.clear_uffd_wp(entry)
    return fmt.mkold(entry)


def _copy_pinned(child: "Mm", copy: Vma, pfn: int, folio: "Folio", address: int) -> int:
    """The child's own page from the start (``copy_present_page``)."""
    machine = child.machine
    fmt = machine.fmt.at[0]
    new = machine.memory.alloc()
    machine.memory.copy_page(new, 0, folio, pfn - folio.pfn, "fork: copy pinned page")
    map_anon(child, copy, new, address)
    return maybe_mkwrite(fmt, fmt.mkdirty(fmt.leaf(new.pfn, leaf_flags(machine, copy))), copy)


def _copied_marker(copy: Vma, spot: "Spot") -> int:
    """Poison and guard are inherited; write-protection only by an area that is watched itself."""
    payload = spot.fmt.marker(spot.entry)
    if not copy.uffd_wp:
        payload &= ~MARKER_UFFD_WP
    return spot.fmt.marker_entry(payload) if payload else 0


def _copied_absent(child: "Mm", copy: Vma, table: "Table", index: int) -> int:
    """One user more, and nobody's exclusively; migration entries hold nothing (``copy_nonpresent_pte``)."""
    fmt, machine = table.fmt, child.machine
    entry = table.read(index, "fork: copy absent")
    kind, flags = fmt.kind(entry), fmt.flags(entry)
    if kind == SWAP:
        machine.swap.duplicate(fmt.swap(entry)[1])
        if flags & EXCLUSIVE:
            entry = fmt.swp_clear_exclusive(entry)
            table.write(index, entry, "fork: share swap entry")
    elif kind == MIGRATION:
        if is_cow(copy) and flags & (WRITE | EXCLUSIVE):
            entry = fmt.pfn_entry(MIGRATION, fmt.pfn(entry), flags & ~(WRITE | EXCLUSIVE))
            table.write(index, entry, "fork: share migration entry")
    elif kind == DEVICE:
        folio = machine.memory.folio(fmt.pfn(entry))
        machine.memory.get(folio, "fork: share")
        map_again(folio)
        clear_exclusive(folio, 0, "fork: not exclusive any more")
        if is_cow(copy) and flags & WRITE:
            entry = fmt.pfn_entry(DEVICE, fmt.pfn(entry), flags & ~WRITE)
            table.write(index, entry, "fork: share device entry")
    if fmt.flags(entry) & UFFD_WP and not copy.uffd_wp:
        entry = fmt.swp_clear_uffd_wp(entry)
    return entry
