"""PMD sharing: who shares, who must not, and what happens when a sharer lets go while others walk."""

from collections.abc import Callable, Sequence

import pytest

from pagewatch.explore.engine import Execution, Pending, run
from pagewatch.model import Kernel, Process, Quirks, UseAfterFree
from pagewatch.model.hugetlb.entries import find
from pagewatch.model.hugetlb.sharing import share
from pagewatch.model.invariants import check
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.vocab.categories import Category
from support.modelled import WRITTEN

HUGE, GIB = 1 << 21, 1 << 30


class Sharers:
    """Processes that map the same gigabyte of a file at the same address."""

    def __init__(self, n_processes: int = 2, *, quirks: Quirks | None = None, arch: str = "x86_64") -> None:
        self.kernel = Kernel(arch, cpus=2, quirks=quirks)
        self.file = self.kernel.memfd(2 * GIB, huge="2M")
        self.processes: list[Process] = []
        for number in range(n_processes):
            process = self.kernel.spawn()
            process.mmap(GIB, file=self.file, shared=True, at=GIB)
            process.store(GIB + number * HUGE, bytes([number + 1]))
            self.processes.append(process)

    def sharers(self, number: int = 0) -> int:
        page = find(self.processes[number].mm, GIB, HUGE, "test")
        return 0 if page is None else page.table.sharers

    def check(self) -> None:
        check(self.kernel.machine)


@pytest.mark.parametrize("arch", ["x86_64", "arm64", "riscv64"])
def test_processes_that_map_the_same_gigabyte_use_one_table(arch: str) -> None:
    world = Sharers(3, arch=arch)
    assert world.sharers() == 3
    assert world.processes[2].load(GIB, 1) == b"\1"
    world.check()


def test_a_page_table_that_is_shared_counts_its_leaves_once() -> None:
    world = Sharers(3)
    assert {folio.raw_mapcount for folio in world.kernel.machine.memory.folios.values() if folio.hugetlb} == {1}


@pytest.mark.parametrize("arch", ["s390", "ppc64-radix-4k"])
def test_other_architectures_do_not_share(arch: str) -> None:
    kernel = Kernel(arch)
    size = {"s390": "1M"}.get(arch, "2M")
    file = kernel.memfd(4 * GIB, huge=size)
    for _ in range(2):
        process = kernel.spawn()
        process.mmap(4 * GIB, file=file, shared=True, at=4 * GIB)
        process.store(4 * GIB, b"x")
    assert all(table.sharers == 1 for table in kernel.machine.tables)
    check(kernel.machine)


def test_differing_flags_places_and_parts_of_a_gigabyte_are_not_shared() -> None:
    world = Sharers(1)
    readonly, elsewhere, part, private = (world.kernel.spawn() for _ in range(4))
    readonly.mmap(GIB, prot=1, file=world.file, shared=True, at=GIB)
    elsewhere.mmap(GIB, file=world.file, shared=True, at=GIB + HUGE)
    part.mmap(GIB - HUGE, file=world.file, shared=True, at=GIB)
    private.mmap(GIB, file=world.file, at=GIB)
    assert readonly.load(GIB, 1) == elsewhere.load(GIB + HUGE, 1) == part.load(GIB, 1) == private.load(GIB, 1) == b"\1"
    assert world.sharers() == 1
    world.check()


def test_registering_for_write_protection_unshares_and_loses_nothing() -> None:
    world = Sharers()
    watched, other = world.processes
    uffd = watched.userfaultfd(Feature.WP_ASYNC)
    uffd.register(GIB, GIB, Mode.WP)
    assert world.sharers(1) == 1
    uffd.writeprotect(GIB, GIB)
    other.store(GIB, b"o")
    assert not watched.scan(GIB, 2 * GIB, WRITTEN).regions
    watched.store(GIB, b"w")
    assert [(r.start, r.end) for r in watched.scan(GIB, 2 * GIB, WRITTEN).regions] == [(GIB, GIB + HUGE)]
    assert other.load(GIB, 1) == b"w"
    world.check()


@pytest.mark.parametrize(
    "let_go",
    [
        lambda process: process.munmap(GIB, GIB),
        lambda process: process.munmap(GIB, HUGE),
        lambda process: process.mprotect(GIB, GIB, 1),
        lambda process: process.mprotect(GIB, HUGE, 1),
        lambda process: process.madvise(GIB, HUGE, 4),
        lambda process: process.mremap(GIB, GIB, GIB, flags=3, target=4 * GIB),
        lambda process: process.exit(),
    ],
    ids=["munmap", "munmap-part", "mprotect", "mprotect-part", "dontneed", "mremap", "exit"],
)
def test_who_changes_a_shared_table_lets_go_of_it_first(let_go: Callable[[Process], object]) -> None:
    world = Sharers()
    let_go(world.processes[0])
    assert world.sharers(1) == 1
    assert world.processes[1].load(GIB, 1) == b"\1"
    world.processes[1].store(GIB, b"z")
    world.check()


def test_a_shared_page_is_nobodys_alone_in_pagemap() -> None:
    for n_processes, exclusive in ((1, True), (2, False)):
        word = Sharers(n_processes).processes[0].pagemap(GIB, 1)[0]
        assert bool(word >> 56 & 1) is exclusive


def test_fork_shares_by_faulting_and_copies_nothing() -> None:
    world = Sharers(1)
    child = world.processes[0].fork()
    assert len(child.mm.root.entries) == 0
    assert child.load(GIB, 1) == b"\1"
    assert world.sharers() == 2
    world.check()


DONTNEED, POPULATE_WRITE = 4, 23
Thread = Callable[[], object]


def race(victim: Thread, other: Thread, pause: str) -> Execution:
    """Run the victim up to the last step with that label, then the other as far as it gets, then the victim."""
    paused = False

    def choose(runnable: tuple[int, ...], pending: Sequence[Pending]) -> int:
        nonlocal paused
        paused = paused or (0 in runnable and pending[0].label == pause)
        return 1 if paused and 1 in runnable else runnable[0]

    execution = run([victim, other], choose)
    assert paused
    assert not execution.deadlocked
    return execution


def fault_and_unshare(quirks: Quirks) -> Execution:
    """A fault, and another thread of its process that lets go of the table, whose owner then frees it."""
    world = Sharers(quirks=quirks)
    first, owner = world.processes

    def unshare_and_free() -> None:
        first.madvise(GIB, HUGE, DONTNEED)
        owner.exit()

    return race(lambda: first.madvise(GIB + 7 * HUGE, HUGE, POPULATE_WRITE), unshare_and_free, "hugetlb fault: read")


def test_a_fault_without_the_vma_lock_goes_on_in_a_table_that_was_freed() -> None:
    execution = fault_and_unshare(Quirks(hugetlb_vma_lock=False))
    assert isinstance(execution.errors[0], UseAfterFree)


def test_the_vma_lock_makes_unsharing_wait_for_the_fault() -> None:
    execution = fault_and_unshare(Quirks())
    assert not execution.errors
    order = execution.order
    assert order.index("hugetlb fault: read") < order.index("hugetlb fault: map") < order.index("unshare: unhook")


def pin_and_unshare(quirks: Quirks) -> bytes:
    """What fast GUP pins while its table is let go of, and the last sharer uses it for small pages."""
    world = Sharers(quirks=quirks)
    first, owner = world.processes
    first.load(GIB, 1, cpu=1)
    got: list[bytes] = []

    def pin() -> None:
        with first.pin(GIB, 1, cpu=1) as pages:
            got.append(pages.read(0, 6))

    def unshare_and_reuse() -> None:
        first.madvise(GIB, HUGE, DONTNEED)
        owner.munmap(GIB, HUGE)
        owner.mmap(HUGE, at=GIB)
        owner.store(GIB, b"secret")

    pmd = find(first.mm, GIB, HUGE, "test")
    assert pmd is not None
    key = (pmd.table.address, 0)
    paused = False

    def choose(runnable: tuple[int, ...], pending: Sequence[Pending]) -> int:
        nonlocal paused
        paused = paused or (pending[0].label == "gup fast: walk" and pending[0].key == key)
        return 1 if paused and 1 in runnable else runnable[0]

    execution = run([pin, unshare_and_reuse], choose)
    assert not execution.errors
    assert not execution.deadlocked
    return got[0]


def test_fast_gup_could_walk_the_page_tables_of_another_process() -> None:
    assert pin_and_unshare(Quirks(hugetlb_unshare_syncs=False, hugetlb_unshare_flushes=False)) == b"secret"


def test_unsharing_waits_for_fast_gup() -> None:
    assert pin_and_unshare(Quirks()) == b"\1" + bytes(5)


def reuse_of_an_unshared_page(quirks: Quirks) -> bytes:
    """A load on a CPU that knew the page, after its table was let go of and the page was freed."""
    world = Sharers(quirks=quirks)
    first = world.processes[0]
    first.load(GIB, 1, cpu=1)
    first.madvise(GIB, HUGE, DONTNEED)
    world.kernel.punch_hole(world.file, 0, HUGE)
    return first.load(GIB, 1, cpu=1)


def test_a_translation_outlived_its_page_when_unsharing_did_not_flush() -> None:
    with pytest.raises(UseAfterFree):
        reuse_of_an_unshared_page(Quirks(hugetlb_unshare_flushes=False, hugetlb_unshare_syncs=False))


def test_unsharing_flushes_all_that_the_table_spans() -> None:
    assert reuse_of_an_unshared_page(Quirks()) == b"\0"


def test_losing_the_race_to_hook_in_a_shared_table_gives_the_count_back() -> None:
    world = Sharers()
    vma = world.processes[0].mm.vmas.at(GIB)
    assert vma is not None
    share(world.processes[0].mm, vma, GIB)
    assert world.sharers() == 2
    world.check()


def test_categories_are_the_same_through_either_process() -> None:
    world = Sharers()
    query = WRITTEN.__class__(returned=Category.PRESENT | Category.FILE | Category.HUGE)
    one, other = ([(r.start, r.categories) for r in p.scan(GIB, 2 * GIB, query).regions] for p in world.processes)
    assert one == other
