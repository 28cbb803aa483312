"""Fast GUP: what it leaves to the slow way, and what its second looks are for."""

from collections.abc import Callable
from itertools import chain

import pytest

from pagewatch.explore.engine import Execution
from pagewatch.model import Kernel, Process, Quirks, UseAfterFree
from pagewatch.model.arch.blocks import directories, expand
from pagewatch.model.arch.format import DIRTY, USER, WRITE, YOUNG
from pagewatch.model.file import FileKind, FileMapping
from pagewatch.model.gup_fast import gup_fast
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.pins import Page, Want, release
from pagewatch.model.rmap import prepare_anon_vma
from pagewatch.model.walk import populate, seek
from support.modelled import PAGE, Area
from support.schedules import At, anywhere, interrupted_once, overlapping

PIN = Want.PIN
LONG = Want.PIN | Want.LONGTERM
BROADCAST = Quirks(flush_is_broadcast=True)


def fast(process: Process, address: int, want: Want) -> list[Page]:
    return gup_fast(process.mm, process.mm.machine.cpus[0], address, 1, want)


def taken(area: Area, want: Want) -> bool:
    """Whether the fast way gets the first page; it is let go of at once."""
    pages = fast(area.process, area.start, want)
    for folio, _ in pages:
        release(area.kernel.machine.memory, folio, want)
    check(area.kernel.machine)
    return bool(pages)


def test_it_takes_what_is_mapped_as_wanted() -> None:
    area = Area(1)
    assert not taken(area, PIN)
    area.store(0)
    assert taken(area, PIN | Want.WRITE)
    assert taken(area, LONG | Want.WRITE)


def test_it_refuses_the_zero_page_protected_pages_and_prot_none() -> None:
    area = Area(1)
    area.load(0)
    assert not taken(area, PIN)
    area.store(0)
    area.armed()
    assert taken(area, PIN)
    assert not taken(area, PIN | Want.WRITE)
    area.process.mprotect(area.start, PAGE, 0)
    assert not taken(area, PIN)


def test_it_leaves_pages_that_must_be_unshared_to_the_slow_way() -> None:
    area = Area(1)
    area.store(0)
    area.process.fork()
    assert not taken(area, PIN)
    assert taken(area, Want.READ)


@pytest.mark.parametrize(
    ("kind", "want", "allowed"),
    [
        (FileKind.SHMEM, PIN | Want.WRITE, True),
        (FileKind.SHMEM, LONG | Want.WRITE, True),
        (FileKind.DISK, PIN | Want.WRITE, True),
        (FileKind.DISK, LONG | Want.WRITE, False),
        (FileKind.DAX, LONG | Want.WRITE, False),
        (FileKind.SECRET, Want.READ, False),
    ],
)
def test_of_files_it_takes_what_no_file_system_has_to_know(kind: FileKind, want: Want, *, allowed: bool) -> None:
    area = Area(1, shared=True)
    file = FileMapping(area.kernel.machine, kind, PAGE)
    mapped = Area(1, process=area.process, shared=True, file=file)
    mapped.store(0)
    assert taken(mapped, want) is allowed


def test_without_the_area_it_takes_no_read_only_file_page_for_long() -> None:
    area = Area(1, shared=True, prot=1)
    area.load(0)
    assert not taken(area, LONG)
    assert taken(area, PIN)


def test_it_takes_pages_of_a_huge_page() -> None:
    area = Area(512)
    area.store(0)
    area.advise(Advice.COLLAPSE, 0, 512)
    pages = gup_fast(area.process.mm, area.kernel.machine.cpus[0], area.at(3), 2, PIN | Want.WRITE)
    assert [page.number for page in pages] == [3, 4]


def test_a_flush_by_interrupt_waits_for_a_walk_even_on_a_cpu_that_has_not_stored_yet() -> None:
    area = Area(1)
    area.store(0)
    assert area.process.mm.cpus == [area.kernel.machine.cpus[0]]
    with area.process.pin(area.start, 1, cpu=1):
        assert set(area.process.mm.cpus) == set(area.kernel.machine.cpus)


# Races


class Race:
    """A thread that pins one written page, and one that does something to it."""

    def __init__(self, quirks: Quirks, arch: str = "x86_64") -> None:
        self.kernel = Kernel(arch, cpus=2, quirks=quirks)
        self.page = self.kernel.machine.page_bytes
        self.process = self.kernel.spawn()
        self.n_bytes = self.kernel.machine.thp_bytes
        self.start = self.process.mmap(self.n_bytes)
        self.process.store(self.start, b"x")
        self.pages: list[Page] = []

    def pinner(self) -> None:
        self.pages = fast(self.process, self.start, PIN | Want.WRITE)

    def is_stale(self) -> bool:
        """Whether a pin was given out on a page that the address space does not have there."""
        if not self.pages:
            return False
        spot = seek(self.process.mm, self.start)
        return (
            spot.fmt.kind(spot.entry) != 2
            or self.kernel.machine.memory.folio(spot.fmt.pfn(spot.entry)) is not self.pages[0].folio
        )


def stale_pins(make: Callable[[], Race], other: Callable[[Race], object], at: At) -> tuple[int, int]:
    """How many executions in which both are interrupted once leave a stale pin; and of how many.

    :param at: where the other is interrupted.
    """
    races: list[Race] = []

    def build() -> list[Callable[[], object]]:
        race = make()
        races.append(race)
        return [race.pinner, lambda: other(race)]

    stale = []
    for execution in overlapping(build, second=at):
        assert not execution.deadlocked
        # A collapse may find a page pinned and say so.
        assert all(isinstance(error, OSError) for error in execution.errors.values())
        stale.append(races[-1].is_stale())
    return sum(stale), len(stale)


@pytest.mark.parametrize(("skips", "loses"), [(True, True), (False, False)], ids=["no recheck", "recheck"])
def test_the_second_look_at_the_entry_keeps_pins_off_pages_that_are_moved_away(*, skips: bool, loses: bool) -> None:
    quirks = Quirks(flush_is_broadcast=True, gup_fast_skips_pte_recheck=skips)
    n_stale, n = stale_pins(
        lambda: Race(quirks), lambda race: race.process.migrate_to_device(race.start, race.page), anywhere
    )
    assert n > 10
    assert (n_stale > 0) is loses


@pytest.mark.parametrize(
    ("quirks", "loses"),
    [
        (Quirks(flush_is_broadcast=True, gup_fast_skips_pmd_recheck=True, collapse_sends_no_interrupt=True), True),
        (Quirks(flush_is_broadcast=True, gup_fast_skips_pmd_recheck=True), False),
        (Quirks(flush_is_broadcast=True, collapse_sends_no_interrupt=True), False),
        (Quirks(gup_fast_skips_pmd_recheck=True, collapse_sends_no_interrupt=True), False),
    ],
    ids=["neither", "interrupt", "recheck", "flush by interrupt"],
)
def test_a_collapse_needs_the_interrupt_or_the_second_look_at_the_directory(quirks: Quirks, *, loses: bool) -> None:
    n_stale, n = stale_pins(
        lambda: Race(quirks, "ppc64-radix-64k"),
        lambda race: race.process.madvise(race.start, race.n_bytes, Advice.COLLAPSE),
        lambda label: label in ("collapse: copy", "rmap: remove", "refs", "collapse: map huge"),
    )
    assert n > 10
    assert (n_stale > 0) is loses


def walks_into_a_freed_table(quirks: Quirks) -> list[Execution]:
    """Fast GUP of shared memory while its table is taken away for a huge page of the file."""

    def build() -> list[Callable[[], object]]:
        kernel = Kernel("ppc64-radix-64k", cpus=2, quirks=quirks)
        process = kernel.spawn()
        n_bytes = kernel.machine.thp_bytes
        file = kernel.memfd(n_bytes)
        one, two = (process.mmap(n_bytes, shared=True, file=file) for _ in range(2))
        process.store(one, b"x")
        process.load(two, 1)
        return [lambda: fast(process, two, PIN), lambda: process.madvise(one, n_bytes, Advice.COLLAPSE)]

    return list(interrupted_once(build))


def test_tables_freed_without_waiting_are_walked_into() -> None:
    runs = walks_into_a_freed_table(Quirks(flush_is_broadcast=True, retract_frees_at_once=True))
    assert any(isinstance(run.errors.get(0), UseAfterFree) for run in runs)


def test_tables_freed_after_a_grace_period_are_not() -> None:
    runs = walks_into_a_freed_table(BROADCAST)
    assert len(runs) > 10
    assert not any(run.deadlocked or run.errors.get(0) for run in runs)


def while_sharing(label: str) -> bool:
    """Whether a fork is at an entry of the parent."""
    return label.startswith(("fork: copy", "fork: share", "fork: take out", "fork: write-protect"))


def forks_and_stores(race: Race) -> None:
    race.process.fork()
    race.process.store(race.start, b"later")


@pytest.mark.parametrize(("ignores", "loses"), [(True, True), (False, False)], ids=["before 5.11", "since"])
def test_the_second_look_at_the_count_of_forks_keeps_pins_off_pages_that_are_shared(
    *, ignores: bool, loses: bool
) -> None:
    """The fork finds the page unpinned, it is pinned, the fork shares it: the next store would go to a copy."""
    quirks = Quirks(gup_fast_ignores_forks=ignores)
    n_stale, n = stale_pins(lambda: Race(quirks, "ppc64-radix-64k"), forks_and_stores, while_sharing)
    assert n > 10
    assert (n_stale > 0) is loses


def test_a_pin_and_a_fork_agree_on_whose_the_page_is_whoever_comes_first() -> None:
    races: list[tuple[Race, list[Process]]] = []

    def build() -> list[Callable[[], object]]:
        race, children = Race(BROADCAST, "ppc64-radix-64k"), []
        races.append((race, children))
        return [race.pinner, lambda: children.append(race.process.fork())]

    gained = set()
    for execution in chain(interrupted_once(build), interrupted_once(build, first=1)):
        assert not execution.errors
        race, children = races[-1]
        gained.add(bool(race.pages))
        if race.pages:
            # What the device sees is what the parent writes, whoever came first.
            race.process.store(race.start, b"later")
            folio, number = race.pages[0]
            assert folio.words[number][0].to_bytes(8, "little")[:5] == b"later"
            assert children[0].load(race.start, 1) == b"x"
    assert gained == {True, False}


# hugepd


def with_hugepd(quirks: Quirks) -> tuple[Process, int]:
    """A page of 16M below a hugepd, anonymous and shared with nobody knows whom, mapped read-only."""
    kernel = Kernel("ppc64-hash-4k-hugepd", quirks=quirks)
    machine, process = kernel.machine, kernel.spawn()
    size = 16 << 20
    start = process.mmap(size, prot=1, at=size * 4)
    (vma,) = process.areas
    folio = machine.memory.alloc(12)
    folio.anon_vma = prepare_anon_vma(process.mm, vma)
    flags = YOUNG | DIRTY | USER & machine.fmt.at[0].supported
    shape = machine.fmt.shape(size)
    top = populate(process.mm, start, "test", shape.level)
    level = machine.fmt.at[shape.level]
    below = machine.tables.alloc(level.directories[size])
    (slot,) = directories(machine.fmt, start, size, [below.address])
    top.table.entries[level.index(start)] = slot.entry
    for leaf in expand(machine.fmt, start, folio.pfn, size, flags):
        below.entries[leaf.format.index(leaf.address)] = leaf.entry
    folio.raw_mapcount = 1
    return process, start


@pytest.mark.parametrize(("skips", "gets"), [(True, True), (False, False)], ids=["before 6.10", "since"])
def test_a_read_pin_below_a_hugepd_has_to_be_unshared_as_well(*, skips: bool, gets: bool) -> None:
    process, start = with_hugepd(Quirks(gup_hugepd_skips_unshare=skips))
    assert not seek(process.mm, start).fmt.flags(seek(process.mm, start).entry) & WRITE
    assert bool(fast(process, start, LONG)) is gets
    assert fast(process, start, Want.READ)
