import pytest

from pagewatch.model import Quirks, Signal
from pagewatch.model.invariants import check
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.vocab.categories import Category
from support.hugetlb_world import SIZES, HugeArea, Size
from support.modelled import WRITTEN

WP_SIZES = [size for size in SIZES if "uffd-wp" in HugeArea(size, n_pages=1).kernel.machine.fmt.features]


def test_shared_pages_are_the_files_and_private_ones_are_not() -> None:
    area = HugeArea(shared=True)
    child = area.process.fork()
    child.store(area.at(1, 7), b"child")
    assert area.process.load(area.at(1, 7), 5) == b"child"
    check(area.kernel.machine)


def test_a_private_page_of_a_file_is_copied_at_the_first_store() -> None:
    area = HugeArea()
    file = area.kernel.memfd(2 << 20, huge="2M")
    shared = area.process.mmap(2 << 20, file=file, shared=True)
    private = area.process.mmap(2 << 20, file=file)
    area.process.store(shared + 4096, b"file")
    assert area.process.load(private + 4096, 4) == b"file"
    area.process.store(private + 4096, b"mine")
    assert area.process.load(shared + 4096, 4) == b"file"
    area.process.store(shared + 4100, b"more")
    assert area.process.load(private + 4096, 8) == b"mine" + bytes(4)
    check(area.kernel.machine)


def test_beyond_the_file_is_sigbus() -> None:
    area = HugeArea()
    file = area.kernel.memfd(2 << 20, huge="2M")
    start = area.process.mmap(4 << 20, file=file, shared=True)
    area.process.store(start, b"x")
    with pytest.raises(Signal) as caught:
        area.process.store(start + (2 << 20), b"x")
    assert (caught.value.signo, caught.value.code) == (7, 2)


@pytest.mark.parametrize("size", WP_SIZES, ids=str)
def test_an_async_write_resolves_one_huge_page(size: Size) -> None:
    area = HugeArea(size)
    area.process.store(area.at(0), b"a")
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, area.n_bytes)
    uffd.writeprotect(area.start, area.n_bytes)
    area.process.store(area.at(0, size.n_bytes - 1), b"b")
    area.process.store(area.at(1), b"c")
    uffd.writeprotect(area.at(1), size.n_bytes)
    written = area.process.scan(area.start, area.end, WRITTEN)
    assert [(r.start, r.end) for r in written.regions] == [(area.start, area.at(1))]
    assert area.process.load(area.start, 1) == b"a"
    check(area.kernel.machine)


def test_a_sync_write_sends_the_start_of_the_huge_page_and_sleeps() -> None:
    area = HugeArea()
    area.process.store(area.at(1), b"a")
    uffd = area.process.userfaultfd(Feature.PAGEFAULT_FLAG_WP)
    uffd.register(area.start, area.n_bytes)
    uffd.writeprotect(area.start, area.n_bytes)
    messages = []

    def answer() -> None:
        messages.append(uffd.read())
        uffd.writeprotect(area.at(1), area.size.n_bytes, protect=False)

    uffd.handle_with(answer)
    area.process.store(area.at(1, 5000), b"b")
    assert [(m.address, m.flags) for m in messages] == [(area.at(1), 3)]
    assert area.process.load(area.at(1, 5000), 1) == b"b"


def test_a_write_to_a_marker_maps_a_protected_page_first() -> None:
    """Two faults: the page keeps the marker's protection, and only the second resolves it."""
    area = HugeArea()
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    uffd.register(area.start, area.n_bytes)
    uffd.writeprotect(area.start, area.n_bytes)
    area.process.load(area.start, 1)
    assert not area.process.scan(area.start, area.at(1), WRITTEN).regions
    area.process.store(area.start, b"x")
    assert area.process.scan(area.start, area.at(1), WRITTEN).regions


def test_missing_and_minor_faults_are_told() -> None:
    area = HugeArea()
    file = area.kernel.memfd(2 << 20, huge="2M")
    start, other = (area.process.mmap(2 << 20, file=file, shared=True) for _ in range(2))
    uffd = area.process.userfaultfd(Feature.MINOR_HUGETLBFS)
    uffd.register(start, 2 << 20, Mode.MISSING | Mode.MINOR)
    seen = []

    def answer() -> None:
        message = uffd.read()
        seen.append(message.flags)
        if message.flags & 4:
            uffd.continue_(start, 2 << 20)
        else:
            uffd.copy(start, b"filled".ljust(2 << 20, b"\0"))

    uffd.handle_with(answer)
    assert area.process.load(start, 6) == b"filled"
    area.process.madvise(start, 2 << 20, 4)
    assert area.process.load(start, 6) == b"filled"
    assert seen == [0, 4]
    assert area.process.load(other, 6) == b"filled"
    check(area.kernel.machine)


def test_poison_is_as_big_as_the_page() -> None:
    area = HugeArea(quirks=Quirks(memory_failure=True))
    uffd = area.process.userfaultfd(Feature.POISON)
    uffd.register(area.start, area.n_bytes)
    uffd.poison(area.start, area.size.n_bytes)
    with pytest.raises(Signal) as caught:
        area.process.load(area.at(0, 5000), 1)
    assert (caught.value.signo, caught.value.code, caught.value.lsb) == (7, 4, 21)


def test_a_child_reads_file_categories_of_shared_pages_only() -> None:
    for shared in (True, False):
        area = HugeArea(shared=shared)
        area.process.store(area.start, b"x")
        word = area.process.pagemap(area.start, 1)[0]
        assert bool(word >> 61 & 1) is shared
        assert bool(area.process.scan(area.start, area.at(1), _FILE).regions) is shared


_FILE = WRITTEN.__class__(mask=Category.FILE, returned=Category.FILE)
