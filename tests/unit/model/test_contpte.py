"""Ordinary memory folded into contiguous blocks: what readers and the tracker see of it, and what its flush is for."""

from collections import Counter
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, run_state_machine_as_test

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, Process, Quirks
from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.arm64 import _arm64
from pagewatch.model.arch.format import DIRTY, LEAF, UFFD_WP, WRITE, YOUNG
from pagewatch.model.contpte import FoldingTable
from pagewatch.model.invariants import check
from pagewatch.model.kernel import PROT_READ, PROT_WRITE
from pagewatch.model.madvise import Advice
from pagewatch.model.mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from pagewatch.model.pins import Want
from pagewatch.model.scan.call import WP_MATCHING, ScanArg
from pagewatch.model.tables import Table
from pagewatch.model.uffd.context import Feature
from pagewatch.model.walk import seek
from support.hardware import try_store
from support.modelled import WRITTEN
from support.versus.histories import Histories
from support.versus.modelled import Modelled
from support.versus.outcomes import LARGE, Arena, Outcome, Step

GRANULES = ["arm64-4k", "arm64-16k", "arm64-64k"]
HUGE_BYTES = 2 << 20
BOTH = PROT_READ | PROT_WRITE
NO_FLUSH = Quirks(contpte_skips_flush=True)


class Blocks:
    """Memory that is mapped by whole blocks of entries; pages are numbered from its start."""

    def __init__(self, arch: str, n_blocks: int = 2, quirks: Quirks | None = None) -> None:
        self.kernel = Kernel(arch, cpus=2, quirks=quirks)
        self.process = self.kernel.spawn()
        self.page_bytes = self.kernel.machine.page_bytes
        self.n = self.kernel.machine.fmt.at[0].leaf_sizes[-1] // self.page_bytes
        self.n_pages = n_blocks * self.n
        self.start = 0

    def at(self, page: int) -> int:
        return self.start + page * self.page_bytes

    def store(self, page: int, data: bytes = b"x", *, cpu: int = 0) -> None:
        self.process.store(self.at(page), data, cpu=cpu)

    def load(self, page: int, *, cpu: int = 0) -> bytes:
        return self.process.load(self.at(page), 1, cpu=cpu)

    def protect(self, first: int, last: int, prot: int) -> None:
        self.process.mprotect(self.at(first), (last - first) * self.page_bytes, prot)

    def flags(self, page: int, process: Process | None = None) -> int:
        """What software reads."""
        spot = seek((process or self.process).mm, self.at(page))
        return spot.fmt.flags(spot.entry)

    def with_flag(self, flag: int) -> list[int]:
        return [page for page in range(self.n_pages) if self.flags(page) & flag]

    def folded(self, process: Process | None = None) -> list[int]:
        """Numbers of the blocks whose words are all those of one block."""
        return [block for block in range(self.n_pages // self.n) if self._is_folded(block, process or self.process)]

    def _is_folded(self, block: int, process: Process) -> bool:
        sizes = set()
        for page in range(block * self.n, (block + 1) * self.n):
            spot = seek(process.mm, self.at(page))
            word = spot.table.entries.get(spot.slot, 0)
            sizes.add(spot.fmt.leaf_bytes(word) if spot.fmt.kind(word) == LEAF else 0)
        return sizes == {self.n * self.page_bytes}

    def armed(self) -> None:
        """Register all of it, and protect it by a scan."""
        uffd = self.process.userfaultfd(Feature.WP_ASYNC | Feature.WP_UNPOPULATED)
        uffd.register(self.start, self.n_pages * self.page_bytes)
        self.collect()

    def collect(self, first: int = 0, last: int | None = None, *, protect: bool = True) -> list[int]:
        """Pages that were written, by number; and protect them again."""
        end = self.at(self.n_pages if last is None else last)
        flags = WP_MATCHING if protect else 0
        reply = self.process.pagemap_scan(
            ScanArg(start=self.at(first), end=end, query=WRITTEN, vec_len=1000, flags=flags)
        )
        return [
            page
            for start, end, _ in reply.regions
            for page in range((start - self.start) // self.page_bytes, (end - self.start) // self.page_bytes)
        ]


class FileBlocks(Blocks):
    """A memfd whose page cache has one large folio, which a read fault maps as a whole."""

    def __init__(self, arch: str = "arm64-4k", n_blocks: int = 2, quirks: Quirks | None = None) -> None:
        super().__init__(arch, n_blocks, quirks)
        machine = self.kernel.machine
        self.file = self.kernel.memfd(self.n_pages * self.page_bytes)
        self.file.insert(0, machine.memory.alloc((self.n_pages - 1).bit_length()))
        near = self.process.mmap(4 * self.n_pages * self.page_bytes)
        self.process.munmap(near, 4 * self.n_pages * self.page_bytes)
        size_bytes = self.n_pages * self.page_bytes
        self.start = self.process.mmap(size_bytes, file=self.file, shared=True, at=near + size_bytes & -size_bytes)
        self.load(0)


class AnonymousBlocks(Blocks):
    """What is left of a huge page that was split."""

    def __init__(self, arch: str = "arm64-4k", n_blocks: int = 2, quirks: Quirks | None = None) -> None:
        super().__init__(arch, n_blocks, quirks)
        huge = self.kernel.machine.thp_bytes
        self.start = self.process.mmap(huge)
        self.process.madvise(self.start, huge, Advice.HUGEPAGE)
        self.store(0, b"x")
        size_bytes = self.n_pages * self.page_bytes
        if size_bytes < huge:
            self.process.munmap(self.start + size_bytes, huge - size_bytes)


KINDS = [(FileBlocks, arch) for arch in GRANULES] + [(AnonymousBlocks, arch) for arch in GRANULES]


@pytest.mark.parametrize(("make", "arch"), KINDS)
def test_entries_of_a_large_folio_are_folded_and_read_as_single_ones(make: type[Blocks], arch: str) -> None:
    blocks = make(arch)
    assert blocks.folded() == [0, 1]
    first = seek(blocks.process.mm, blocks.start)
    for page in (1, blocks.n - 1, blocks.n):
        spot = seek(blocks.process.mm, blocks.at(page))
        assert spot.fmt.leaf_bytes(spot.entry) == blocks.page_bytes
        assert spot.fmt.pfn(spot.entry) == first.fmt.pfn(first.entry) + page
    check(blocks.kernel.machine)


@pytest.mark.parametrize("arch", ["x86_64", "riscv64", "s390", "ppc64-radix-4k"])
def test_other_formats_have_nothing_of_it(arch: str) -> None:
    process = Kernel(arch).spawn()
    process.store(process.mmap(4096), b"x")
    assert {type(table) for table in process.mm.machine.tables} == {Table}


def test_a_kernel_without_it_keeps_entries_single() -> None:
    blocks = FileBlocks(quirks=Quirks(contpte=False))
    assert blocks.folded() == []
    assert {type(table) for table in blocks.kernel.machine.tables} == {Table}


def test_memory_of_small_folios_is_not_folded() -> None:
    blocks = Blocks("arm64-4k")
    # A huge page of its own first, so that the frames of what follows are aligned.
    blocks.kernel.machine.memory.alloc(5)
    blocks.start = blocks.process.mmap(blocks.n_pages * blocks.page_bytes)
    for page in range(blocks.n_pages):
        blocks.store(page)
    assert blocks.folded() == []


@pytest.mark.parametrize("arch", GRANULES)
def test_dirtying_one_page_makes_its_whole_block_dirty_for_a_reader(arch: str) -> None:
    blocks = FileBlocks(arch)
    assert blocks.with_flag(DIRTY) == []
    blocks.store(blocks.n + 3)
    assert blocks.with_flag(DIRTY) == list(range(blocks.n, 2 * blocks.n))
    table = seek(blocks.process.mm, blocks.at(blocks.n)).table
    assert sum(bool(table.fmt.flags(word) & DIRTY) for word in table.entries.values()) == 1


@pytest.mark.parametrize(("make", "arch"), KINDS)
def test_the_tracker_tells_single_pages_of_a_block(make: type[Blocks], arch: str) -> None:
    blocks = make(arch)
    blocks.armed()
    assert blocks.folded() == [0, 1]
    assert blocks.with_flag(UFFD_WP) == list(range(blocks.n_pages))
    blocks.store(blocks.n + 3)
    assert blocks.folded() == [0]
    assert blocks.collect() == [blocks.n + 3]
    assert blocks.collect() == []
    check(blocks.kernel.machine)


@pytest.mark.parametrize("make", [FileBlocks, AnonymousBlocks])
def test_protecting_half_a_block_unfolds_that_one_and_undoing_it_folds_again(make: type[Blocks]) -> None:
    blocks = make("arm64-4k")
    blocks.protect(0, 8, PROT_READ)
    assert blocks.folded() == [1]
    assert not any(blocks.flags(page) & WRITE for page in range(8))
    assert all(blocks.flags(page) & WRITE for page in range(8, 16))
    blocks.protect(8, 16, PROT_READ)
    assert blocks.folded() == [0, 1]
    check(blocks.kernel.machine)


def test_dirt_stays_when_a_block_is_unfolded() -> None:
    blocks = FileBlocks()
    blocks.store(3)
    blocks.protect(8, 9, PROT_READ)
    assert blocks.folded() == [1]
    assert blocks.with_flag(DIRTY) == list(range(16))


def test_memory_without_access_is_not_folded() -> None:
    blocks = FileBlocks()
    blocks.protect(0, blocks.n, 0)
    assert blocks.folded() == [1]
    blocks.protect(0, blocks.n, BOTH)
    assert blocks.folded() == [0, 1]


def test_accessed_bits_are_cleared_of_blocks_as_they_are() -> None:
    blocks = FileBlocks()
    blocks.process.clear_refs("1")
    assert blocks.folded() == [0, 1]
    assert blocks.with_flag(YOUNG) == []
    blocks.load(5)
    assert blocks.with_flag(YOUNG) == list(range(16))


def test_dirty_bits_are_cleared_of_the_whole_block_around_a_page() -> None:
    blocks = AnonymousBlocks()
    table = seek(blocks.process.mm, blocks.start).table
    assert isinstance(table, FoldingTable)
    assert blocks.with_flag(DIRTY) == list(range(32))
    table.forget(5, DIRTY, "test")
    assert blocks.with_flag(DIRTY) == list(range(16, 32))
    assert blocks.folded() == [0, 1]


def test_lazily_freed_blocks_become_clean_as_they_are() -> None:
    blocks = AnonymousBlocks(n_blocks=32)
    blocks.protect(0, 16, PROT_READ)
    blocks.protect(0, 16, BOTH)
    assert blocks.folded() == list(range(32))
    blocks.process.madvise(blocks.start, blocks.n_pages * blocks.page_bytes, Advice.FREE)
    assert blocks.with_flag(DIRTY) == []
    assert blocks.folded() == list(range(32))
    blocks.store(20)
    assert blocks.with_flag(DIRTY) == list(range(16, 32))
    check(blocks.kernel.machine)


def test_a_child_of_fork_shares_blocks_and_copies_single_pages() -> None:
    blocks = AnonymousBlocks()
    child = blocks.process.fork()
    assert blocks.folded() == blocks.folded(child) == [0, 1]
    assert blocks.with_flag(WRITE) == []
    child.store(blocks.at(3), b"child")
    assert (blocks.folded(), blocks.folded(child)) == ([0, 1], [1])
    assert (blocks.load(3), child.load(blocks.at(3), 1)) == (b"\0", b"c")
    check(blocks.kernel.machine)


def test_a_table_that_moved_flushes_where_it_is_now() -> None:
    blocks = AnonymousBlocks(n_blocks=32)
    blocks.protect(0, 1, PROT_READ)
    blocks.protect(0, 1, BOTH)
    table, size_bytes = seek(blocks.process.mm, blocks.start).table, blocks.n_pages * blocks.page_bytes
    new = blocks.start - 4 * size_bytes
    blocks.process.mremap(blocks.start, size_bytes, size_bytes, flags=MREMAP_MAYMOVE | MREMAP_FIXED, target=new)
    blocks.start = new
    assert seek(blocks.process.mm, blocks.start).table is table
    assert 1 in blocks.folded()
    blocks.load(16)
    blocks.protect(24, 25, PROT_READ)
    assert 1 not in blocks.folded()
    assert not blocks.kernel.machine.cpus[0].tlb.keys() & {(1, blocks.at(page) >> 12) for page in range(16, 32)}
    check(blocks.kernel.machine)


def test_hugetlb_blocks_in_such_a_table_are_left_alone() -> None:
    blocks = Blocks("arm64-4k", 1)
    blocks.start = blocks.process.mmap(64 << 10, huge="64K")
    blocks.store(3, b"a")
    assert blocks.folded() == [0]
    with blocks.process.pin(blocks.at(5), 1, Want.WRITE):
        assert blocks.folded() == [0]
    child = blocks.process.fork()
    blocks.store(4, b"b")
    assert (blocks.folded(), blocks.folded(child)) == ([0], [0])
    assert (blocks.load(3), blocks.load(4), child.load(blocks.at(4), 1)) == (b"a", b"b", b"\0")
    check(blocks.kernel.machine)


# Against an oracle that knows pages only

steps = st.lists(
    st.tuples(
        st.sampled_from(["store", "load", "collect", "look", "read-only", "drop"]),
        st.integers(0, 1 << 16),
        st.integers(0, 1 << 16),
        st.integers(0, 1),
    ),
    max_size=12,
)


@pytest.mark.parametrize(("make", "arch"), KINDS[:4])
@given(steps=steps)
@settings(deadline=None, max_examples=25)
def test_scans_after_arming_agree_with_an_oracle_of_single_pages(
    make: type[Blocks], arch: str, steps: list[tuple[str, int, int, int]]
) -> None:
    blocks = make(arch)
    blocks.armed()
    written: set[int] = set()
    contents = {0: b"x"} if make is AnonymousBlocks else {}
    for what, one, other, cpu in steps:
        page, last = sorted((one % blocks.n_pages, other % blocks.n_pages))
        inside = range(page, last + 1)
        if what == "store":
            blocks.store(page, bytes([cpu + 1]), cpu=cpu)
            written.add(page)
            contents[page] = bytes([cpu + 1])
        elif what == "load":
            assert blocks.load(page, cpu=cpu) == contents.get(page, b"\0")
        elif what == "read-only":
            blocks.protect(page, last + 1, PROT_READ)
            blocks.protect(page, last + 1, BOTH)
        elif what == "drop" and make is FileBlocks:
            blocks.process.madvise(blocks.at(page), (last + 1 - page) * blocks.page_bytes, Advice.DONTNEED)
        elif what == "look":
            assert blocks.collect(page, last + 1, protect=False) == [one for one in inside if one in written]
        elif what == "collect":
            assert blocks.collect(page, last + 1) == [one for one in inside if one in written]
            written.difference_update(inside)
    assert blocks.collect() == sorted(written)
    assert [blocks.load(page) for page in range(blocks.n_pages)] == [
        contents.get(page, b"\0") for page in range(blocks.n_pages)
    ]
    check(blocks.kernel.machine)


class Unfolded:
    """Stands in for the live kernel: an arm64 that does not fold."""

    @staticmethod
    def run(arena: Arena, script: list[Step]) -> list[Outcome]:
        modelled = Modelled(arena, Quirks(contpte=False), arch="arm64-4k")
        return [modelled.outcome(step) for step in script]


class FoldedHistories(Histories):
    """Histories that begin with a huge page in pieces."""

    live = Unfolded()
    arena = LARGE
    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.modelled = Modelled(self.arena, arch="arm64-4k")

    @initialize(kind=st.sampled_from(["anon", "memfd", "shared"]))
    def begin(self, kind: str) -> None:
        first = next(page for page in range(512) if not self.arena.at(page) & HUGE_BYTES - 1)
        self.step("mmap", 0, 0, self.arena.n_pages, kind, BOTH, 0)
        self.step("madvise", 0, 0, self.arena.n_pages, int(Advice.HUGEPAGE))
        self.step("store", 0, first, 5)
        self.step("madvise", 0, first, 512, int(Advice.COLLAPSE))
        self.step("mprotect", 0, first + 20, 1, PROT_READ)
        self.step("load", 0, first)
        tables = self.modelled.kernel.machine.tables
        assert any(table.fmt.leaf_bytes(word) == 65536 for table in tables for word in table.entries.values())


def test_no_history_of_calls_tells_that_memory_is_folded() -> None:
    quick = settings(max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(FoldedHistories, settings=quick)
    assert FoldedHistories.counts["steps"] > 50, "the histories were compared"


# In words


def test_stories_and_pictures_name_blocks() -> None:
    blocks = FileBlocks()
    assert "block of 16 at frame" in blocks.process.picture(blocks.start, blocks.at(2))
    with blocks.kernel.explain(blocks.process, blocks.start, 4 * blocks.page_bytes) as story:
        blocks.store(2, cpu=1)
        blocks.protect(8, 9, PROT_READ)
    what = [event.what for event in story.events]
    assert any(words.startswith("TLB of cpu1: pages 0 to 3, as one block, from frame") for words in what)
    assert any(words.startswith("PTE of page 3: block of 16 at frame") and words.endswith("empty") for words in what)
    assert any(words.startswith("PTE of page 3: empty -> frame") for words in what)


# Every interleaving, with blocks of two pages


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> str:
    """An arm64 whose contiguous block is two entries: what can happen to more of them happens to two."""
    name = "arm64-pairs"
    monkeypatch.setattr("pagewatch.model.machine.ARCHES", {**ARCHES, name: _arm64(name, 12, (1, 4), 3)})
    return name


def lost_while_unfolding(arch: str, quirks: Quirks) -> list[bool]:
    """Whether CPU 1, which remembers a clean block, stores to page 1 and no reader will know; for every trace."""
    made: list[tuple[FileBlocks, list[bool]]] = []

    def build() -> list[Callable[[], None]]:
        blocks, stored = FileBlocks(arch, 1, quirks), []
        blocks.load(0, cpu=1)
        assert blocks.folded() == [0]
        made.append((blocks, stored))
        return [
            lambda: blocks.protect(0, 1, PROT_READ),
            lambda: stored.append(try_store(blocks.process, blocks.at(1), b"new", cpu=1)),
        ]

    lost = []
    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        blocks, stored = made[-1]
        assert blocks.folded() == []
        lost.append(stored[0] and not blocks.flags(1) & DIRTY)
    return lost


def test_no_store_is_lost_while_a_block_is_being_unfolded(pairs: str) -> None:
    lost = lost_while_unfolding(pairs, Quirks())
    assert len(lost) > 10
    assert not any(lost)


def test_without_the_flush_one_is(pairs: str) -> None:
    lost = lost_while_unfolding(pairs, NO_FLUSH)
    assert any(lost)
    assert not all(lost)


def test_a_reader_without_a_lock_misses_no_dirt_of_a_block_that_is_being_unfolded(pairs: str) -> None:
    seen: list[list[int]] = []

    def build() -> list[Callable[[], None]]:
        blocks, entries = FileBlocks(pairs, 1), []
        blocks.store(0)
        assert blocks.folded() == [0]
        seen.append(entries)

        def read() -> None:
            spot = seek(blocks.process.mm, blocks.at(1))
            entries.append(spot.fmt.flags(spot.entry))

        return [lambda: blocks.protect(0, 1, PROT_READ), read]

    found = set()
    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        found.add(seen[-1][0] & (DIRTY | WRITE))
    assert found == {0, DIRTY | WRITE}, "it is empty for a while, and never clean"


def test_a_pin_without_locks_and_an_unfolding_do_not_wait_for_each_other(pairs: str) -> None:
    made: list[FileBlocks] = []

    def build() -> list[Callable[[], None]]:
        blocks = FileBlocks(pairs, 1)
        blocks.load(0, cpu=1)
        made.append(blocks)
        return [
            lambda: blocks.protect(0, 1, PROT_READ),
            lambda: blocks.process.pin(blocks.at(1), 1, Want.WRITE, cpu=1).release(),
        ]

    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
    assert len(made) > 10
    check(made[-1].kernel.machine)
