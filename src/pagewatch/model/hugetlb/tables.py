"""Making and freeing the tables that huge pages stand in (``huge_pte_alloc``, ``hugetlb_free_pgd_range``)."""

from functools import partial
from typing import TYPE_CHECKING

from pagewatch.model.arch.blocks import directories
from pagewatch.model.arch.format import TABLE
from pagewatch.model.errors import KernelBug
from pagewatch.model.hugetlb.entries import HugePage, find, table_at
from pagewatch.model.hugetlb.sharing import share, wants_share
from pagewatch.model.tlb import flush_range
from pagewatch.model.walk import populate

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.vma import Vma


def make(mm: "Mm", vma: "Vma", address: int) -> HugePage:
    """The entries of a page of the area, with all tables above them made."""
    n_bytes = vma.page_bytes
    found = find(mm, address, n_bytes, "hugetlb: find")
    if found is not None:
        return found
    shape = mm.machine.fmt.shape(n_bytes)
    if wants_share(mm, vma, address):
        share(mm, vma, address)
    else:
        populate(mm, address, "hugetlb: make tables", shape.level)
        if shape.n_tables:
            _make_directories(mm, address & -n_bytes, n_bytes)
    page = find(mm, address, n_bytes, "hugetlb: find")
    if page is None:
        raise KernelBug(f"something else stands where the tables of {address:#x} should be")
    return page


def _make_directories(mm: "Mm", start: int, n_bytes: int) -> None:
    """Special directory entries, and the tables below them (``__hugepte_alloc``)."""
    machine = mm.machine
    shape = machine.fmt.shape(n_bytes)
    above = table_at(mm, start, shape.level, "hugepd: find")
    if above is None:
        return
    below = [machine.tables.alloc(above.fmt.directories[n_bytes]) for _ in range(shape.n_tables)]
    slots = directories(machine.fmt, start, n_bytes, [table.address for table in below])
    with above.lock:
        made = above.read(above.fmt.index(start), "hugepd: look") == 0
        for slot in slots if made else ():
            above.write(above.fmt.index(slot.address), slot.entry, "hugepd: hook in")
    if not made:
        for table in below:
            machine.tables.free(table)


def free_directories(mm: "Mm", vma: "Vma") -> None:
    """Free the special directories that no area needs after ``vma`` was unmapped (``free_hugepd_range``).

    Several entries may share a table; they go together. The caller holds the mmap lock for writing.
    """
    shape = mm.machine.fmt.shape(vma.page_bytes)
    if not shape.n_tables:
        return
    span = max(vma.page_bytes, 1 << mm.machine.fmt.at[shape.level].shift)
    for start in range(vma.start & -span, vma.end, span):
        if not mm.vmas.overlapping(start, start + span):
            _free_directory(mm, start, span, shape.level)


def _free_directory(mm: "Mm", start: int, span: int, level: int) -> None:
    machine = mm.machine
    above = table_at(mm, start, level, "hugepd: find")
    if above is None:
        return
    freed: dict[int, Table] = {}
    for address in range(start, start + span, 1 << above.fmt.shift):
        index = above.fmt.index(address)
        entry = above.read(index, "hugepd: look")
        if above.fmt.kind(entry) == TABLE:
            table = machine.tables.below(above, entry)
            freed[table.address] = table
            above.write(index, 0, "hugepd: unhook")
    flush_range(mm, start, start + span)
    for table in freed.values():
        machine.rcu.call(partial(machine.tables.free, table))
