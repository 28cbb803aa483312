"""Moving pages to the memory of a device and back (mm/migrate_device.c).

A move has three steps, best effort throughout: a page that is locked, pinned or otherwise in use stays.

* *Collect*: under the table's lock each leaf becomes a migration entry, which keeps its bits and makes
  faults wait. The dirty bit has to go to the folio, too: once the entry is gone nothing else knows.
  The flush comes before the table's lock is dropped. Otherwise a zap that runs in parallel sees entries
  that are not present, skips its own flush, and returns while other CPUs still write through old translations.
* *Unmap*: other mappings get migration entries, too; whoever still holds a reference keeps the page here.
* *Move*: copy, and put the new page, or the old one, where the migration entries stand.

Only anonymous memory goes to a device. A file's pages are collected, and then put back.
"""

from enum import Enum
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    DEVICE,
    DIRTY,
    EXCLUSIVE,
    LEAF,
    MIGRATION,
    SOFT_DIRTY,
    UFFD_WP,
    WRITE,
    YOUNG,
    EntryFormat,
)
from pagewatch.model.fault.state import leaf_flags, maybe_mkwrite
from pagewatch.model.folioflags import is_dirty, is_exclusive, is_lazy_free, set_exclusive
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import folio_at, keep_dirty, map_again, unmap
from pagewatch.model.rmap import mappings_of, rmap_locked
from pagewatch.model.tlb import flush_range
from pagewatch.model.walk import locked, locked_spans, seek

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.vma import Vma


class Place(Enum):
    """Where memory is."""

    RAM = "memory of the machine"
    DEVICE = "memory of a device, which no CPU can reach"


def migrate(mm: "Mm", start: int, end: int, to: Place = Place.DEVICE) -> list[int]:
    """Move the pages of [start, end) (bytes); returns the addresses of those that moved."""
    with mm.mmap_lock.shared:
        return [
            address
            for vma in mm.vmas.overlapping(start, end)
            for address in migrate_area(mm, max(start, vma.start), min(end, vma.end), to)
        ]


def migrate_area(mm: "Mm", start: int, end: int, to: Place) -> list[int]:
    """As :func:`migrate`, for part of one area; the caller holds the mmap lock for reading."""
    moved = []
    with invalidating(mm, Event.MIGRATE, start, end):
        for address, folio in _collect(mm, start, end, to).items():
            free_to_go = _try_unmap(mm.machine, folio)
            if free_to_go and (folio.anon or to is Place.RAM):
                _move(mm.machine, folio, to)
                moved.append(address)
            else:
                origin = Place.RAM if to is Place.DEVICE else Place.DEVICE
                _replace_migration_entries(mm.machine, folio, folio, origin)
            folio.lock.release()
            mm.machine.memory.put(folio, "migrate: release the old page")
    return moved


def _collect(mm: "Mm", start: int, end: int, to: Place) -> dict[int, "Folio"]:
    """``migrate_vma_collect_pmd``: locked and held folios by address, their leaves replaced."""
    found: dict[int, Folio] = {}
    late = mm.machine.quirks.migrate_flushes_late
    for span in locked_spans(mm, start, end, "migrate: walk"):
        if span.spot.level:
            continue
        address, flush = span.start, False
        for index in span.indexes:
            folio = _collect_entry(mm, span.spot.table, index, address, to)
            if folio is not None:
                found[address], flush = folio, True
            address += mm.machine.page_bytes
        if flush and not late:
            flush_range(mm, span.start, span.end)
    if found and late:
        flush_range(mm, start, end)
    return found


def _collect_entry(mm: "Mm", table: "Table", index: int, address: int, to: Place) -> "Folio | None":
    fmt, machine = table.fmt, mm.machine
    entry = table.read(index, "migrate: look")
    kind = fmt.kind(entry)
    if kind == LEAF and to is Place.DEVICE:
        folio = folio_at(machine, fmt, entry)
    elif kind == DEVICE and to is Place.RAM:
        folio = machine.memory.folio(fmt.pfn(entry))
    else:
        return None
    if folio is None or folio.order or not folio.lock.try_acquire():
        return None
    machine.memory.get(folio, "migrate: hold the old page")
    if not _make_migration_entry(mm, table, index, address, folio):
        folio.lock.release()
        machine.memory.put(folio, "migrate: leave a pinned page")
        return None
    return folio


def _make_migration_entry(mm: "Mm", table: "Table", index: int, address: int, folio: "Folio") -> bool:
    """Replace an entry of the folio and drop its reference; False for a pinned page, which stays."""
    fmt, quirks = table.fmt, mm.machine.quirks
    entry = table.exchange(index, 0, "migrate: clear")
    exclusive = is_exclusive(folio, 0, "migrate: exclusive?")
    if exclusive:
        # Who pins without a lock looks at the entry again after pinning: so clear and flush, then look for pins.
        flush_range(mm, address, address + mm.machine.page_bytes)
        if mm.machine.memory.look_for_pins(folio, "migrate: look for pins"):
            table.write(index, entry, "migrate: put back")
            return False
    if fmt.kind(entry) == LEAF and not quirks.migrate_drops_dirty:
        keep_dirty(folio, fmt, entry)
    flags = fmt.flags(entry) & (WRITE | YOUNG | DIRTY | SOFT_DIRTY | UFFD_WP)
    if not flags & WRITE and exclusive:
        flags |= EXCLUSIVE
    table.write(index, fmt.pfn_entry(MIGRATION, folio.pfn, flags), "migrate: migration entry")
    unmap(folio)
    mm.machine.memory.put(folio, "migrate: unmap")
    return True


def _try_unmap(machine: "Machine", folio: "Folio") -> bool:
    """Other mappings, too, get migration entries (``try_to_migrate``); False if anybody still uses the page."""
    with rmap_locked(folio):
        for mm, _, address in mappings_of(machine, folio):
            spot = seek(mm, address, "migrate: reverse map")
            with locked(spot) as stands:
                entry = spot.table.read(spot.slot, "migrate: reverse map look") if stands else 0
                if not _maps(spot.fmt, entry, folio):
                    continue
                _make_migration_entry(mm, spot.table, spot.slot, address, folio)
                flush_range(mm, address, address + mm.machine.page_bytes)
    expected = 1 + (folio.mapping is not None)
    memory = machine.memory
    mapped = memory.count_maps(folio, "migrate: count leaves")
    return not mapped and memory.count(folio, "migrate: count references") == expected


def _move(machine: "Machine", folio: "Folio", to: Place) -> None:
    """Copy a page to its new place (``migrate_folio``), and let the migration entries point there."""
    new = machine.memory.alloc()
    machine.memory.copy_page(new, 0, folio, 0, "migrate: copy")
    new.anon_vma, new.index = folio.anon_vma, folio.index
    new.raw_dirty = is_dirty(folio, "migrate: dirty?")
    new.raw_lazy_free = is_lazy_free(folio, "migrate: may be dropped?")
    _replace_migration_entries(machine, folio, new, to)
    machine.memory.put(new, "migrate: moved")


def _replace_migration_entries(machine: "Machine", old: "Folio", new: "Folio", place: Place) -> None:
    """Put ``new`` where migration entries of ``old`` stand (``remove_migration_ptes``)."""
    with rmap_locked(old):
        for mm, vma, address in mappings_of(machine, old):
            spot = seek(mm, address, "migrate: find migration entry")
            fmt = spot.fmt
            with locked(spot) as stands:
                entry = spot.table.read(spot.slot, "migrate: look at migration entry") if stands else 0
                if fmt.kind(entry) != MIGRATION or fmt.pfn(entry) != old.pfn:
                    continue
                flags = fmt.flags(entry)
                if new.anon and flags & (WRITE | EXCLUSIVE):
                    set_exclusive(new, 0, "migrate: exclusive")
                mm.machine.memory.get(new, "migrate: map")
                map_again(new)
                # It may have been cleaned since.
                kept = flags if is_dirty(new, "migrate: cleaned since?") else flags & ~DIRTY
                leaf = restored_leaf(mm, vma, new.pfn, kept)
                replacement = _device_entry(fmt, new, flags) if place is Place.DEVICE else leaf
                spot.table.write(spot.slot, replacement, "migrate: replace migration entry")


def _device_entry(fmt: EntryFormat, folio: "Folio", flags: int) -> int:
    return fmt.pfn_entry(DEVICE, folio.pfn, flags & (WRITE | SOFT_DIRTY | UFFD_WP))


def restored_leaf(mm: "Mm", vma: "Vma", pfn: int, flags: int) -> int:
    """The leaf that stood where a migration entry with these flags is (``remove_migration_pte``)."""
    fmt = mm.machine.fmt.at[0]
    entry = fmt.leaf(pfn, leaf_flags(mm.machine, vma))
    if not flags & YOUNG:
        entry = fmt.mkold(entry)
    if flags & DIRTY:
        entry = fmt.mkdirty(entry)
    if flags & SOFT_DIRTY:
        entry = fmt.mksoft_dirty(entry)
    if flags & WRITE:
        entry = maybe_mkwrite(fmt, entry, vma)
    return fmt.mkuffd_wp(entry) if flags & UFFD_WP else entry


def _maps(fmt: EntryFormat, entry: int, folio: "Folio") -> bool:
    return fmt.kind(entry) in (LEAF, DEVICE) and fmt.pfn(entry) == folio.pfn
