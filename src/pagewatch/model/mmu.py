"""The hardware's side of a memory access: translate, fill the TLB, set accessed and dirty, move the data.

A user access is one instruction: it holds its CPU from translation to data. If it cannot be translated
it ends in a fault, which the kernel handles with interrupts on; then the instruction runs again.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import DIRTY, LEAF, WRITE
from pagewatch.model.fault.handle import user_fault
from pagewatch.model.fault.state import Access
from pagewatch.model.memory import load_bytes, store_bytes
from pagewatch.model.tlb import Cpu, Translation
from pagewatch.model.walk import descend, frame_of

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


def load(mm: "Mm", cpu: Cpu, address: int, n_bytes: int) -> bytes:
    """A user's load of bytes; one instruction per page touched.

    :raises Signal: the access is not allowed, or the memory failed.
    """
    page_bytes = mm.machine.page_bytes
    inside = address & page_bytes - 1
    if inside + n_bytes <= page_bytes:
        return _load_within(mm, cpu, address, n_bytes)
    n_first = page_bytes - inside
    return _load_within(mm, cpu, address, n_first) + load(mm, cpu, address + n_first, n_bytes - n_first)


def store(mm: "Mm", cpu: Cpu, address: int, data: bytes) -> None:
    """A user's store of bytes; one instruction per page touched.

    :raises Signal: the access is not allowed, or the memory failed; earlier pages are written then.
    """
    page_bytes = mm.machine.page_bytes
    inside = address & page_bytes - 1
    while inside + len(data) > page_bytes:
        n_first = page_bytes - inside
        _store_within(mm, cpu, address, data[:n_first])
        address, inside, data = address + n_first, 0, data[n_first:]
    _store_within(mm, cpu, address, data)


def touch(mm: "Mm", cpu: Cpu, address: int) -> bool:
    """Fill the TLB speculatively, as hardware may at any time; False where that would fault."""
    vpn = address >> mm.machine.page_shift
    with cpu.interrupts:
        return translate(mm, cpu, vpn, writing=False) is not None


def try_load(mm: "Mm", cpu: Cpu, address: int, n_bytes: int) -> bytes | None:
    """One load instruction, within a page; None where it would fault."""
    machine = mm.machine
    vpn = address >> machine.page_shift
    with cpu.interrupts:
        found = cpu.lookup(mm.id, vpn)
        if found is None and not machine.hashed:
            found = translate(mm, cpu, vpn, writing=False)
        if found is None:
            return None
        folio = machine.memory.folio(found.pfn)
        return load_bytes(folio, found.pfn - folio.pfn, address & machine.page_bytes - 1, n_bytes, "load")


def try_store(mm: "Mm", cpu: Cpu, address: int, data: bytes) -> bool:
    """One store instruction, within a page; False where it would fault."""
    machine = mm.machine
    vpn = address >> machine.page_shift
    with cpu.interrupts:
        found = cpu.lookup(mm.id, vpn)
        if found is None or not found.writable or not found.dirty:
            found = None if machine.hashed else translate(mm, cpu, vpn, writing=True)
        if found is None:
            return False
        folio = machine.memory.folio(found.pfn)
        store_bytes(folio, found.pfn - folio.pfn, address & machine.page_bytes - 1, data, "store")
        return True


def _load_within(mm: "Mm", cpu: Cpu, address: int, n_bytes: int) -> bytes:
    while (data := try_load(mm, cpu, address, n_bytes)) is None:
        if not _hash_fault(mm, cpu, address, writing=False):
            user_fault(mm, address, Access.READ)
    return data


def _store_within(mm: "Mm", cpu: Cpu, address: int, data: bytes) -> None:
    while not try_store(mm, cpu, address, data):
        if not _hash_fault(mm, cpu, address, writing=True):
            user_fault(mm, address, Access.WRITE)


def _hash_fault(mm: "Mm", cpu: Cpu, address: int, *, writing: bool) -> bool:
    """Insert a translation into the hash table, as software does there (``hash_page_mm``); False is a fault.

    That is no instruction which a flush would wait for, but a section of the kernel with interrupts off.
    """
    if not mm.machine.hashed:
        return False
    with cpu.interrupts_off():
        return translate(mm, cpu, address >> mm.machine.page_shift, writing=writing) is not None


def translate(mm: "Mm", cpu: Cpu, vpn: int, *, writing: bool) -> Translation | None:
    """Walk the page tables for one page as hardware does, and remember the result; None is a fault.

    Accessed and dirty bits are set by compare-and-exchange of the whole entry: if it changed meanwhile,
    hardware walks again.
    """
    cpu.run(mm)
    if writing and mm.machine.folds and (found := _dirty_block(mm, cpu, vpn)) is not None:
        return found
    address = vpn << mm.machine.page_shift
    while True:
        spot = descend(mm, address, "mmu: walk", hardware=True)
        fmt, entry = spot.fmt, spot.entry
        if fmt.kind(entry) != LEAF:
            return None
        after = (fmt.after_store if writing else fmt.after_load)(entry)
        if after is None:
            # A translation that faults is dropped, so a stale read-only one cannot fault for ever.
            cpu.evict(mm.id, vpn, "tlb: drop on fault")
            return None
        label = "mmu: set dirty" if writing else "mmu: set accessed"
        if after == entry or spot.table.compare_exchange(spot.slot, entry, after, label):
            break
    flags = fmt.flags(after)
    pfn = frame_of(fmt, after, address)
    found = Translation(pfn, spot.table, spot.slot, bool(flags & WRITE), bool(flags & DIRTY))
    if mm.machine.folds and not fmt.level and (n_pages := fmt.leaf_bytes(after) >> fmt.shift) > 1:
        cpu.fill_block(mm.id, vpn, found, n_pages)
    else:
        cpu.fill(mm.id, vpn, found)
    return found


def _dirty_block(mm: "Mm", cpu: Cpu, vpn: int) -> Translation | None:
    """Set dirty through the translation of a clean block; None where there is none, or none that allows it.

    Hardware may set it in any entry of the block. It takes the one that it remembers the block from, and does
    not look whether that is part of a block still.
    """
    cached = cpu.lookup(mm.id, vpn)
    if cached is None or cached.n_pages == 1 or not cached.writable:
        return None
    table, fmt = cached.table, cached.table.fmt
    while True:
        entry = table.read_word(cached.index, "mmu: look at the block")
        after = fmt.after_store(entry) if fmt.kind(entry) == LEAF else None
        if after is None:
            return None
        if after == entry or table.compare_exchange(cached.index, entry, after, "mmu: set dirty"):
            break
    found = Translation(cached.pfn, table, cached.index, writable=True, dirty=True)
    cpu.fill_block(mm.id, vpn, found, cached.n_pages)
    return found
