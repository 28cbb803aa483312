import errno
import mmap
import os

import pytest

from pagewatch.linux.abi.pagemap import PM_PRESENT
from pagewatch.linux.scratch import anonymous, armed, shared_file
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from support import raw
from support.needs import requires
from support.refusals import errno_of

P = mmap.PAGESIZE


def mapped_ranges() -> list[tuple[int, int]]:
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - as plain as can be
        return [tuple(int(bound, 16) for bound in line.split()[0].split("-")) for line in maps]


def is_mapped(address: int) -> bool:
    return any(start <= address < end for start, end in mapped_ranges())


@pytest.mark.parametrize("align", [P, 16 * P, 512 * P])
def test_it_begins_where_it_is_asked_to_and_is_gone_in_the_end(align: int) -> None:
    with anonymous(4 * P, align=align) as memory:
        assert memory.start % align == 0
        assert memory.end - memory.start == 4 * P
        assert is_mapped(memory.start)
        assert is_mapped(memory.end - 1)
        start = memory.start
    assert not is_mapped(start)


def test_it_is_gone_after_an_exception_too() -> None:
    starts = []

    def fail_inside() -> None:
        with anonymous(4 * P) as memory:
            starts.append(memory.start)
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert not is_mapped(starts[0])


def test_every_store_changes_its_byte() -> None:
    with anonymous(2 * P) as memory, memory.writable_view(P + 7, 1) as view:
        seen = {view[0]}
        for _ in range(255):
            memory.store(P + 7)
            seen.add(view[0])
        assert len(seen) == 256


def test_a_store_touches_its_page_only_and_populating_all() -> None:
    with anonymous(8 * P, align=8 * P) as memory:
        memory.advise(mmap.MADV_NOHUGEPAGE)
        memory.store(3 * P + 100)
        assert [bool(word & PM_PRESENT) for word in memory.pagemap().tolist()] == [page == 3 for page in range(8)]
        memory.populate()
        assert all(word & PM_PRESENT for word in memory.pagemap().tolist())
        memory.advise(mmap.MADV_DONTNEED, 2 * P, P)
        assert [bool(word & PM_PRESENT) for word in memory.pagemap().tolist()] == [page != 2 for page in range(8)]


def test_unknown_advice_is_an_error() -> None:
    with anonymous(P) as memory:
        assert errno_of(memory.advise, 9999) == errno.EINVAL


def test_stores_into_a_shared_file_are_in_the_file() -> None:
    fd = os.memfd_create("scratch")
    try:
        os.ftruncate(fd, 2 * P)
        with shared_file(fd, 2 * P) as memory:
            memory.store(P)
        assert os.pread(fd, 1, P) == b"\x01"
        os.fstat(fd)  # still the caller's
    finally:
        os.close(fd)


@requires("uffd_wp_async")
def test_armed_memory_is_protected_until_the_end() -> None:
    with anonymous(4 * P) as memory:
        memory.populate()
        with armed(memory.start, memory.end) as scanner:
            assert raw.protected_pages(memory.start, memory.end) == [0, 1, 2, 3]
            memory.store(2 * P)
            assert raw.protected_pages(memory.start, memory.end) == [0, 1, 3]
            found = scanner.scan(memory.start, memory.end, Query(mask=Category.WRITTEN)).regions
            assert [region[:2] for region in found] == [(memory.start + 2 * P, memory.start + 3 * P)]
        assert raw.protected_pages(memory.start, memory.end) == []
