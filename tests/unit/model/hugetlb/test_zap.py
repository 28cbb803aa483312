import pytest

from pagewatch.model.invariants import check
from pagewatch.model.notifier import Event, SecondaryMmu
from pagewatch.model.uffd.context import Feature
from support.hugetlb_world import SIZES, HugeArea, Size
from support.modelled import ALL

DONTNEED, REMOVE = 4, 9


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_dontneed_empties_whole_pages_and_only_those(size: Size) -> None:
    area = HugeArea(size, n_pages=3)
    n_pages = area.n_bytes // size.n_bytes
    for page in range(n_pages):
        area.process.store(area.at(page), b"x")
    n_given = (n_pages - 1) * size.n_bytes + area.kernel.machine.page_bytes  # rounded down to huge pages
    area.process.madvise(area.start, n_given, DONTNEED)
    assert [area.process.load(area.at(page), 1) for page in range(n_pages)] == [b"\0"] * (n_pages - 1) + [b"x"]
    check(area.kernel.machine)


def test_no_cpu_keeps_a_translation_of_what_was_taken_out() -> None:
    area = HugeArea()
    for cpu in range(2):
        area.process.load(area.at(0, cpu * 4096), 1, cpu=cpu)
    area.process.madvise(area.start, area.size.n_bytes, DONTNEED)
    assert not any(cpu.tlb for cpu in area.kernel.machine.cpus)


def test_protection_outlives_dontneed_as_a_marker_and_goes_with_the_mapping() -> None:
    area = HugeArea()
    area.process.store(area.start, b"x")
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, area.n_bytes)
    uffd.writeprotect(area.start, area.n_bytes)
    area.process.madvise(area.start, area.n_bytes, DONTNEED)
    assert area.process.pagemap(area.start, 1)[0] >> 57 & 1
    area.process.munmap(area.start, area.n_bytes)
    assert not area.process.scan(area.start, area.end, ALL).regions
    check(area.kernel.machine)


def test_remove_takes_the_pages_from_the_file_as_well() -> None:
    area = HugeArea(shared=True)
    child = area.process.fork()
    area.process.store(area.start, b"x")
    area.process.madvise(area.start, area.size.n_bytes, REMOVE)
    assert child.load(area.start, 1) == b"\0"
    check(area.kernel.machine)


def test_a_notifier_hears_of_all_that_a_shared_table_spans() -> None:
    gib = 1 << 30
    area = HugeArea()
    file = area.kernel.memfd(gib, huge="2M")
    start = area.process.mmap(gib, file=file, shared=True, at=gib)
    area.process.store(start, b"x")
    mirror = SecondaryMmu(area.process.mm)
    area.process.madvise(start + (2 << 20), 2 << 20, DONTNEED)
    assert mirror.events == [(Event.CLEAR, gib, 2 * gib)]
