"""What each kind of entry is called, at every level; literal expectations, entry by entry."""

import pytest

from pagewatch.model import Kernel, Quirks
from pagewatch.model.arch.format import (
    DEVICE,
    HWPOISON,
    MARKER_GUARD,
    MARKER_POISON,
    MARKER_UFFD_WP,
    MIGRATION,
    SOFT_DIRTY,
    SPECIAL,
    UFFD_WP,
    WRITE,
    EntryFormat,
)
from pagewatch.model.file import FileKind, FileMapping
from pagewatch.model.rmap import prepare_anon_vma
from pagewatch.model.scan.classify import Classifier, area_categories, hole_categories
from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from support.letters import F, H, P, S, W, Z

SOFT, GUARD = Category.SOFT_DIRTY, Category.GUARD


class Entries:
    """A machine with one anonymous folio and one of a file, and entries of them."""

    def __init__(self, *, order: int = 0, want_file: bool = True, **quirks) -> None:
        self.kernel = Kernel(quirks=Quirks(**quirks))
        self.machine = self.kernel.machine
        self.fmt: EntryFormat = self.machine.fmt.at[0]
        self.classifier = Classifier(self.machine, want_file=want_file)
        process = self.kernel.spawn()
        process.mmap(4096)
        self.anon = self.machine.memory.alloc(order)
        self.anon.anon_vma = prepare_anon_vma(process.mm, process.areas[0])
        self.cached = self.machine.memory.alloc(order)
        self.cached.mapping = FileMapping(self.machine, FileKind.SHMEM, 4096 << order)

    def small(self, entry: int) -> Category:
        return Category(self.classifier.entry(self.fmt, entry))

    def huge(self, level: int, kind: int | None = None, flags: int = 0, *, file: bool = False) -> Category:
        fmt = self.machine.fmt.at[level]
        folio = self.cached if file else self.anon
        entry = fmt.leaf(folio.pfn, flags) if kind is None else fmt.pfn_entry(kind, folio.pfn, flags)
        return Category(self.classifier.huge(fmt, entry))


def test_a_present_page_is_written_unless_its_entry_is_protected() -> None:
    it = Entries()
    assert it.small(it.fmt.leaf(it.anon.pfn, WRITE)) == P | W
    assert it.small(it.fmt.leaf(it.anon.pfn, UFFD_WP)) == P
    assert it.small(it.fmt.leaf(it.cached.pfn, WRITE)) == P | W | F
    assert it.small(it.fmt.leaf(it.cached.pfn, UFFD_WP)) == P | F


def test_the_zero_page_is_no_file() -> None:
    it = Entries()
    assert it.small(it.fmt.leaf(it.machine.memory.zero.pfn, SPECIAL)) == P | W | Z


def test_file_is_looked_for_only_where_it_matters() -> None:
    it = Entries(want_file=False)
    assert it.small(it.fmt.leaf(it.cached.pfn, WRITE)) == P | W


@pytest.mark.parametrize("kind", [MIGRATION, DEVICE, HWPOISON])
def test_absent_entries_that_carry_a_frame_know_whether_it_is_a_files(kind: int) -> None:
    it = Entries()
    assert it.small(it.fmt.pfn_entry(kind, it.anon.pfn)) == S | W
    assert it.small(it.fmt.pfn_entry(kind, it.cached.pfn)) == S | W | F
    assert it.small(it.fmt.swp_mkuffd_wp(it.fmt.pfn_entry(kind, it.cached.pfn))) == S | F


def test_a_swap_entry_is_never_a_files() -> None:
    it = Entries()
    assert it.small(it.fmt.swap_entry(0, 7)) == S | W
    assert it.small(it.fmt.swp_mkuffd_wp(it.fmt.swap_entry(0, 7))) == S


@pytest.mark.parametrize(
    ("payload", "categories"),
    [
        (MARKER_UFFD_WP, S),
        (MARKER_POISON, S | W),
        (MARKER_POISON | MARKER_UFFD_WP, S),
        (MARKER_GUARD, S | W | GUARD),
        (MARKER_GUARD | MARKER_UFFD_WP, S | GUARD),
    ],
)
def test_every_marker_counts_as_swapped(payload: int, categories: Category) -> None:
    it = Entries()
    assert it.small(it.fmt.marker_entry(payload)) == categories


def test_before_6_16_a_guard_is_any_marker() -> None:
    it = Entries(guard_category=False)
    assert it.small(it.fmt.marker_entry(MARKER_GUARD)) == S | W


@pytest.mark.parametrize(("fixed", "categories"), [(True, W), (False, Category(0))], ids=["2026", "before"])
def test_an_empty_entry_is_written_since_2026(*, fixed: bool, categories: Category) -> None:
    assert Entries(scan_holes_written=fixed).small(0) == categories


def test_soft_dirty_shows_where_the_kernel_has_it() -> None:
    for has in (True, False):
        it = Entries(soft_dirty=has)
        assert bool(it.small(it.fmt.leaf(it.anon.pfn, SOFT_DIRTY)) & SOFT) is has
        assert bool(it.small(it.fmt.swp_mksoft_dirty(it.fmt.swap_entry(0, 7))) & SOFT) is has


@pytest.mark.parametrize("level", [1, 2], ids=["PMD", "PUD"])
def test_a_leaf_above_the_lowest_level_is_huge_besides(level: int) -> None:
    it = Entries(order=9 * level)
    assert it.huge(level, flags=WRITE) == H | P | W
    assert it.huge(level, flags=UFFD_WP) == H | P
    assert it.huge(level, flags=WRITE, file=True) == H | P | W | F


@pytest.mark.parametrize("level", [1, 2], ids=["PMD", "PUD"])
@pytest.mark.parametrize("kind", [MIGRATION, HWPOISON])
def test_an_absent_entry_above_the_lowest_level_is_huge_and_not_present(level: int, kind: int) -> None:
    it = Entries(order=9 * level)
    assert it.huge(level, kind) == H | S | W
    assert it.huge(level, kind, file=True) == H | S | W | F


def test_the_huge_zero_page_is_the_zero_page() -> None:
    it = Entries()
    fmt, zero = it.machine.fmt.at[1], it.machine.memory.huge_zero(9)
    assert Category(it.classifier.huge(fmt, fmt.leaf(zero.pfn, SPECIAL))) == H | P | W | Z


def test_an_area_adds_that_it_may_be_protected_and_memory_without_a_table_is_written_then() -> None:
    it = Entries()
    process = it.kernel.spawn()
    start = process.mmap(4096)
    (vma,) = process.areas
    assert (area_categories(it.machine, vma), hole_categories(it.machine, vma)) == (0, 0)
    process.userfaultfd(Feature.WP_ASYNC).register(start, 4096)
    (vma,) = process.areas
    assert Category(area_categories(it.machine, vma)) == Category.WPALLOWED
    assert Category(hole_categories(it.machine, vma)) == W
