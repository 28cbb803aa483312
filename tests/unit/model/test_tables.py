"""Page tables and the pages they stand in."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, UseAfterFree
from pagewatch.model.arch import ARCHES
from pagewatch.model.invariants import check
from pagewatch.model.tables import Tables


def tables_of(arch: str) -> Tables:
    return Kernel(arch).machine.tables


@pytest.mark.parametrize(
    ("arch", "level", "n"),
    [
        ("x86_64", 0, 1),
        ("ppc64-radix-64k", 0, 256),
        ("ppc64-hash-64k", 0, 32),
        ("s390", 0, 2),
        ("ppc64-e500", 1, 1),
    ],
)
def test_as_many_tables_share_a_page_as_directory_entries_can_point_to(arch: str, level: int, n: int) -> None:
    tables = tables_of(arch)
    made = [tables.alloc(ARCHES[arch].at[level]) for _ in range(n + 1)]
    assert len({table.page.pfn for table in made[:n]}) == 1
    assert made[n].page is not made[0].page
    assert made[0].page.n_used == n
    step = ARCHES[arch].at[level].entry_bytes << ARCHES[arch].at[level].index_bits
    assert all(b.address - a.address == step for a, b in pairwise(made[:n]))


def test_a_page_goes_with_the_last_table_in_it() -> None:
    tables = tables_of("ppc64-radix-64k")
    one, two = (tables.alloc(tables.fmt.at[0]) for _ in range(2))
    tables.free(one)
    assert two.page.pfn in tables.pages
    tables.free(two)
    assert two.page.pfn not in tables.pages
    assert tables.alloc(tables.fmt.at[0]).page is not two.page


def test_a_freed_table_is_never_touched_though_its_neighbour_keeps_the_page() -> None:
    tables = tables_of("ppc64-radix-64k")
    one, _two = (tables.alloc(tables.fmt.at[0]) for _ in range(2))
    tables.free(one)
    with pytest.raises(UseAfterFree):
        one.read(0, "test")
    with pytest.raises(UseAfterFree):
        one.write(0, 1, "test")


def test_a_table_whose_free_is_deferred_keeps_the_page_of_its_neighbours() -> None:
    kernel = Kernel("ppc64-radix-64k")
    tables = kernel.machine.tables
    one, two = (tables.alloc(tables.fmt.at[0]) for _ in range(2))
    with kernel.machine.rcu:
        kernel.machine.rcu.call(lambda: tables.free(one))
        tables.free(two)
        assert one.page.n_used == 1
        assert one.read(0, "test") == 0
    assert one.page.pfn not in tables.pages


def test_a_reader_without_a_lock_races_with_the_free() -> None:
    def build() -> list[Callable[[], object]]:
        tables = tables_of("x86_64")
        table = tables.alloc(tables.fmt.at[0])
        return [lambda: (table.read(1, "one"), table.read(2, "two")), lambda: tables.free(table)]

    runs = list(enumerate_traces(build))
    assert sorted("".join(str(thread) for thread in run.schedule) for run in runs) == ["001", "010", "10"]
    assert [isinstance(run.errors.get(0), UseAfterFree) for run in runs] == [False, True, True]


@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_every_format_walks_to_tables_wherever_they_stand_in_a_page(arch: str) -> None:
    kernel = Kernel(arch)
    process, fmt = kernel.spawn(), kernel.machine.fmt
    reach = 1 << fmt.at[0].shift + fmt.at[0].index_bits
    starts = [process.mmap(fmt.page_bytes, at=reach * (n + 1)) for n in range(3)]
    for number, start in enumerate(starts):
        process.store(start, bytes([number + 1]))
    assert [process.load(start, 1)[0] for start in starts] == [1, 2, 3]
    check(kernel.machine)
    process.exit()
    assert not len(kernel.machine.tables)
    assert not kernel.machine.tables.pages
