"""What a CPU does without the kernel: one attempt at a load or a store, which a fault would end."""

from pagewatch.model import Process
from pagewatch.model.memory import load_bytes, store_bytes
from pagewatch.model.mmu import translate


def try_store(process: Process, address: int, data: bytes, *, cpu: int) -> bool:
    """Store if the TLB or the page tables allow it; False where the kernel would have to help."""
    mm, machine = process.mm, process.mm.machine
    vpn, inside = divmod(address, machine.page_bytes)
    core = machine.cpus[cpu]
    with core.interrupts:
        found = core.lookup(mm.id, vpn)
        if found is None or not found.writable or not found.dirty:
            found = translate(mm, core, vpn, writing=True)
        if found is None:
            return False
        folio = machine.memory.folio(found.pfn)
        store_bytes(folio, found.pfn - folio.pfn, inside, data, "store")
        return True


def try_load(process: Process, address: int, n_bytes: int, *, cpu: int) -> bytes | None:
    """Load if the TLB or the page tables allow it; None where the kernel would have to help."""
    mm, machine = process.mm, process.mm.machine
    vpn, inside = divmod(address, machine.page_bytes)
    core = machine.cpus[cpu]
    with core.interrupts:
        found = core.lookup(mm.id, vpn) or translate(mm, core, vpn, writing=False)
        if found is None:
            return None
        folio = machine.memory.folio(found.pfn)
        return load_bytes(folio, found.pfn - folio.pfn, inside, n_bytes, "load")
