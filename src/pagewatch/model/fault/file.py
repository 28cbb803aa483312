"""Faults on file-backed memory that is not mapped yet (``do_fault``)."""

from typing import TYPE_CHECKING

from pagewatch.model.fault.notify import notify
from pagewatch.model.fault.state import Fault, Outcome, announcing_write, has_root, leaf_flags, maybe_mkwrite
from pagewatch.model.file import FileKind, FileMapping
from pagewatch.model.folioflags import is_poisoned, set_dirty
from pagewatch.model.memory import Folio
from pagewatch.model.pages import map_again, map_anon
from pagewatch.model.uffd.context import Reason
from pagewatch.model.vma import VM_SHARED, VM_UFFD, VM_UFFD_MINOR, VM_UFFD_MISSING
from pagewatch.model.walk import locked

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine

FAULT_AROUND_BYTES = 65536
"""How much of the page cache a read fault maps at once (``fault_around_bytes``)."""


def file_fault(fault: Fault, file: FileMapping) -> Outcome:
    """Map a page of the page cache, or a private copy of it for a private write."""
    index = fault.vma.index_of(fault.address, fault.mm.machine.page_shift)
    private = not fault.vma.flags & VM_SHARED
    if private and fault.writing and not has_root(fault):
        return Outcome.RETRY
    if not fault.writing and not fault.vma.uffd_armed:
        # Comes first: neighbours are mapped even where this page cannot be.
        _fault_around(fault, file, index)
        if not fault.unchanged():
            return Outcome.DONE
    if index >= file.n_pages:
        return Outcome.SIGBUS
    reason = _wanted_by_uffd(fault, file, index)
    if reason is not None:
        return notify(fault, reason)
    uncached = file.cached(index) is None
    folio = file.bring_in(index)
    if uncached and file.kind is FileKind.DISK:
        # Reading takes long: the locks were dropped meanwhile, and the fault starts over.
        fault.mm.machine.memory.put(folio, "fault: read")
        return Outcome.RETRY
    failed = is_poisoned(folio, "fault: failed?")
    if failed or not fault.have_table():
        fault.mm.machine.memory.put(folio, "fault: failed memory, or lost the race")
        return Outcome.HWPOISON if failed else Outcome.DONE
    if private and fault.writing:
        return _map_copy(fault, folio, index)
    return _map_cached(fault, folio, index)


def _wanted_by_uffd(fault: Fault, file: FileMapping, index: int) -> Reason | None:
    """Whether a userfaultfd wants to fill in the page itself; only memfds offer that."""
    flags = fault.vma.flags
    if file.kind is not FileKind.SHMEM or not flags & (VM_UFFD_MISSING | VM_UFFD_MINOR):
        return None
    present = file.cached(index) is not None or index in file.swapped
    if present:
        return Reason.MINOR if flags & VM_UFFD_MINOR else None
    return Reason.MISSING if flags & VM_UFFD_MISSING else None


def _map_cached(fault: Fault, folio: Folio, index: int) -> Outcome:
    """Map the page-cache page itself, and with it all of its folio if nothing is there (``finish_fault``)."""
    vma, fmt = fault.vma, fault.fmt
    memory = fault.mm.machine.memory
    with announcing_write(fault), folio.lock, fault.table.lock:
        if not fault.unchanged() or folio.mapping is None:
            memory.put(folio, "fault: lost the race")
            return Outcome.DONE
        if is_poisoned(folio, "fault: failed meanwhile?"):
            memory.put(folio, "fault: failed memory")
            return Outcome.HWPOISON
        flags, table = leaf_flags(fault.mm.machine, vma), fault.table
        if fault.writing:
            set_dirty(folio, "fault: dirty file page")
        protect = fault.was_wp()
        for slot in _slots_to_map(fault, folio, index):
            entry = fmt.leaf(folio.pfn + index - folio.index + slot - fault.spot.slot, flags)
            if fault.writing:
                entry = maybe_mkwrite(fmt, fmt.mkdirty(entry), vma)
            map_again(folio)
            if slot == fault.spot.slot:
                fault.set_entry(fmt.mkuffd_wp(entry) if protect else entry, "fault: map file page")
            else:
                memory.get(folio, "fault: another leaf")
                table.write(slot, entry, "fault: map the rest of the folio")
    return Outcome.DONE


def _slots_to_map(fault: Fault, folio: Folio, index: int) -> range:
    """The slots of all of a memfd's folio where they are empty and nobody watches, else of the one page."""
    slot, one = fault.spot.slot, range(fault.spot.slot, fault.spot.slot + 1)
    if (
        not folio.order
        or fault.vma.flags & VM_UFFD
        or folio.mapping is None
        or folio.mapping.kind is not FileKind.SHMEM
    ):
        return one
    slots = _whole(fault, folio, slot - (index - folio.index))
    if slots is None or any(fault.table.read(other, "fault: look for room") for other in slots):
        return one
    return slots


def _whole(fault: Fault, folio: Folio, first: int) -> range | None:
    """The slots of a folio from ``first`` on, if all are in the table and in the area."""
    vma, fmt = fault.vma, fault.mm.machine.fmt.at[0]
    base = fault.address - (fmt.index(fault.address) << fmt.shift)
    start, end = base + (first << fmt.shift), base + (first + folio.n_pages << fmt.shift)
    if first < 0 or first + folio.n_pages > 1 << fmt.index_bits or start < vma.start or vma.end < end:
        return None
    return range(first, first + folio.n_pages)


def _map_copy(fault: Fault, source: Folio, index: int) -> Outcome:
    """Map a private, writable copy of a page-cache page (``do_cow_fault``)."""
    mm, vma, fmt = fault.mm, fault.vma, fault.fmt
    memory = mm.machine.memory
    copy = memory.alloc()
    with source.lock:
        failed = is_poisoned(source, "fault: failed meanwhile?")
        memory.copy_page(copy, 0, source, index - source.index, "fault: copy file page")
        with fault.table.lock:
            mapped = not failed and fault.unchanged() and source.mapping is not None
            if mapped:
                map_anon(mm, vma, copy, fault.address)
                entry = maybe_mkwrite(fmt, fmt.mkdirty(fmt.leaf(copy.pfn, leaf_flags(mm.machine, vma))), vma)
                if fault.was_wp():
                    entry = fmt.mkuffd_wp(entry)
                fault.set_entry(entry, "fault: map private copy")
    memory.put(source, "fault: copied")
    if not mapped:
        memory.put(copy, "fault: lost the race")
    return Outcome.HWPOISON if failed else Outcome.DONE


def _only_tail(machine: "Machine", file: FileMapping, cached: dict[int, Folio]) -> bool:
    """Whether all there is to map is the end of a file: then no table is made for it, memfds excepted."""
    tail = next(iter(cached.values()))
    if not machine.quirks.fault_around_needs_table_for_tail or file.kind is FileKind.SHMEM:
        return False
    return tail.index + tail.n_pages >= file.n_pages


def _fault_around(fault: Fault, file: FileMapping, index: int) -> None:
    """Map what the page cache holds around the fault, within the table and the area (``do_fault_around``)."""
    vma, machine = fault.vma, fault.mm.machine
    fmt, shift = machine.fmt.at[0], machine.page_shift
    n_around = max(1, FAULT_AROUND_BYTES >> shift)
    at = fmt.index(fault.address)
    into_vma = fault.address - vma.start >> shift
    first = max(at & -n_around, at - min(at, into_vma))
    last = min(first + n_around, 1 << fmt.index_bits, at + (vma.end - fault.address >> shift))
    cached = {
        slot: folio
        for slot in range(first, last)
        if index + slot - at < file.n_pages and (folio := file.folios.get(index + slot - at))
    }
    if not cached or (fault.spot.level and _only_tail(machine, file, cached)) or not fault.have_table():
        return
    if machine.quirks.fault_around_maps_whole_folios:
        _widen(fault, file, cached, index - at)
    table, flags = fault.table, leaf_flags(machine, vma)
    with locked(fault.spot) as stands:
        for slot, folio in sorted(cached.items()) if stands else ():
            if table.read(slot, "fault around: look") or not folio.lock.try_acquire():
                continue
            if folio.mapping is file and not is_poisoned(folio, "fault around: failed?"):
                machine.memory.get(folio, "fault around: get")
                map_again(folio)
                table.write(slot, fmt.leaf(folio.pfn + index + slot - at - folio.index, flags), "fault around: map")
            folio.lock.release()


def _widen(fault: Fault, file: FileMapping, cached: dict[int, Folio], offset: int) -> None:
    """Take large folios as wholes where they fit, however little of them is around the fault.

    :param offset: page offset of slot 0.
    """
    first = next(iter(cached.values()))
    if file.kind is not FileKind.SHMEM and first.index + first.n_pages > file.n_pages:
        return
    for folio in {folio.pfn: folio for folio in cached.values() if folio.order}.values():
        cached.update(dict.fromkeys(_whole(fault, folio, folio.index - offset) or (), folio))
