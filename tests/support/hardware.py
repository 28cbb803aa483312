"""What a CPU does without the kernel: one attempt at a load or a store, which a fault would end."""

from pagewatch.model import Process, mmu


def try_store(process: Process, address: int, data: bytes, *, cpu: int) -> bool:
    """Store if the TLB or the page tables allow it; False where the kernel would have to help."""
    return mmu.try_store(process.mm, process.mm.machine.cpus[cpu], address, data)


def try_load(process: Process, address: int, n_bytes: int, *, cpu: int) -> bytes | None:
    """Load if the TLB or the page tables allow it; None where the kernel would have to help."""
    return mmu.try_load(process.mm, process.mm.machine.cpus[cpu], address, n_bytes)
