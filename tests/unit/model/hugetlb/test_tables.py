import pytest

from pagewatch.model.arch.blocks import directories, expand
from pagewatch.model.arch.format import DIRTY, YOUNG
from pagewatch.model.hugetlb.entries import table_at
from pagewatch.model.invariants import check
from support.hugetlb_world import SIZES, HugeArea, Size


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_tables_hold_what_the_format_says_a_page_looks_like(size: Size) -> None:
    area = HugeArea(size, n_pages=1)
    area.process.store(area.start, b"x")
    machine = area.kernel.machine
    fmt, shape = machine.fmt, machine.fmt.shape(size.n_bytes)
    above = table_at(area.process.mm, area.start, shape.level, "test")
    assert above is not None
    slots = {above.fmt.index(area.start + (i << above.fmt.shift)) for i in range(shape.n_entries)}
    below = {machine.tables.below(above, above.entries[slot]) for slot in slots} if shape.n_tables else set()
    assert len(below) == shape.n_tables
    ordered = sorted(below, key=lambda table: table.address)
    want = directories(fmt, area.start, size.n_bytes, [table.address for table in ordered])
    assert all(above.entries[above.fmt.index(slot.address)] == slot.entry for slot in want)
    [folio] = [folio for folio in machine.memory.folios.values() if folio.hugetlb]
    for slot in expand(fmt, area.start, folio.pfn, size.n_bytes, 0):
        table = above
        if shape.n_tables:
            table = machine.tables.below(above, above.entries[above.fmt.index(slot.address)])
        entry = table.entries[slot.format.index(slot.address)]
        assert slot.format.pfn(entry) == slot.format.pfn(slot.entry)
        assert slot.format.leaf_bytes(entry) == size.n_bytes
        assert slot.format.flags(entry) & (YOUNG | DIRTY) == YOUNG | DIRTY or "hw-dirty" in fmt.features


def test_a_hugepd_goes_only_when_no_slot_of_it_is_used() -> None:
    area = HugeArea(Size("ppc64-hash-4k-hugepd", 16 << 20), n_pages=4)
    for page in range(4):
        area.process.store(area.at(page), b"x")
    machine = area.kernel.machine
    full = len(machine.tables)
    area.process.munmap(area.at(1), 16 << 20)
    assert len(machine.tables) == full
    area.process.munmap(area.start, 16 << 20)
    area.process.munmap(area.at(2), 32 << 20)
    check(machine)
    assert len(machine.tables) == 1
