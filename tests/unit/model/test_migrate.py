"""Device migration: what moves, what stays, and every interleaving with stores and zaps."""

from collections.abc import Callable, Iterator

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, Quirks
from pagewatch.model.arch.format import DEVICE, DIRTY, LEAF, SOFT_DIRTY, UFFD_WP, WRITE
from pagewatch.model.errors import UseAfterFree
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.notifier import Event, SecondaryMmu
from pagewatch.model.pages import folio_at
from pagewatch.model.walk import Spot, seek
from pagewatch.steps import WouldBlock
from support.hardware import try_load, try_store
from support.modelled import PAGE, Area


def spot(area: Area, page: int) -> Spot:
    return seek(area.process.mm, area.at(page))


def move(area: Area, first: int, last: int) -> list[int]:
    return [
        (address - area.start) // PAGE
        for address in area.process.migrate_to_device(area.at(first), (last - first) * PAGE)
    ]


def test_anonymous_pages_go_to_the_device_and_come_back_when_touched() -> None:
    area = Area(3)
    area.process.store(area.at(1), b"content")
    assert move(area, 0, 3) == [1]
    assert spot(area, 1).kind == DEVICE
    check(area.kernel.machine)
    assert area.load(1, 7) == b"content"
    assert spot(area, 1).kind == LEAF
    check(area.kernel.machine)


def test_a_store_to_a_page_on_the_device_is_a_store() -> None:
    area = Area(1)
    area.process.store(area.start, b"old")
    move(area, 0, 1)
    area.process.store(area.start, b"new")
    assert area.load(0, 3) == b"new"
    check(area.kernel.machine)


def test_protection_survives_the_way_there_and_back() -> None:
    area = Area(1)
    area.store(0)
    area.armed()
    assert move(area, 0, 1) == [0]
    assert area.pages() == []
    area.load(0)
    assert spot(area, 0).fmt.flags(spot(area, 0).entry) & (UFFD_WP | WRITE) == UFFD_WP
    area.store(0)
    assert area.pages() == [0]


def flags(area: Area) -> int:
    """Bits of the first page's entry, wherever the page is."""
    return spot(area, 0).fmt.flags(spot(area, 0).entry)


TRACKED_AS: dict[str, tuple[Callable[[Area], object], int]] = {
    "written": (lambda area: area.store(0), SOFT_DIRTY | WRITE),
    "soft-dirty cleared": (lambda area: area.process.clear_refs("4"), 0),
    "soft-dirty cleared, armed": (lambda area: (area.process.clear_refs("4"), area.armed()), UFFD_WP),
    "armed": (lambda area: area.armed(), SOFT_DIRTY | UFFD_WP),
}
"""What is done to a page that was written, and the bits that its entry has then."""


@pytest.mark.parametrize(("track", "bits"), TRACKED_AS.values(), ids=TRACKED_AS)
def test_every_tracking_bit_goes_to_the_device_and_comes_back(track: Callable[[Area], object], bits: int) -> None:
    area = Area(1, quirks=Quirks(soft_dirty=True))
    area.store(0)
    track(area)
    tracking = SOFT_DIRTY | UFFD_WP | WRITE
    assert flags(area) & tracking == bits
    assert move(area, 0, 1) == [0]
    assert spot(area, 0).kind == DEVICE
    assert flags(area) & tracking == bits
    area.load(0)
    assert spot(area, 0).kind == LEAF
    assert flags(area) & tracking == bits
    area.store(0)
    assert flags(area) & tracking == SOFT_DIRTY | WRITE


@pytest.mark.parametrize("parent_writes", [True, False], ids=["parent", "child"])
def test_a_page_forked_while_on_the_device_is_nobodys_alone(*, parent_writes: bool) -> None:
    area = Area(1)
    area.process.store(area.start, b"old")
    move(area, 0, 1)
    child = area.process.fork()
    writer, reader = (area.process, child) if parent_writes else (child, area.process)
    writer.load(area.start, 1)
    writer.store(area.start, b"new")
    assert (writer.load(area.start, 3), reader.load(area.start, 3)) == (b"new", b"old")
    check(area.kernel.machine)


def test_only_the_parents_entry_stays_protected_when_a_page_is_forked_on_the_device() -> None:
    area = Area(1, quirks=Quirks(soft_dirty=True))
    area.store(0)
    area.armed()
    move(area, 0, 1)
    child = area.process.fork()
    theirs = seek(child.mm, area.start)
    assert theirs.kind == DEVICE
    assert flags(area) & (SOFT_DIRTY | UFFD_WP) == SOFT_DIRTY | UFFD_WP
    assert theirs.fmt.flags(theirs.entry) & (SOFT_DIRTY | UFFD_WP) == SOFT_DIRTY


def test_a_pinned_page_stays_as_it_was() -> None:
    area = Area(2)
    area.store(0, 1)
    before = spot(area, 0).entry
    folio = folio_at(area.kernel.machine, spot(area, 0).fmt, before)
    assert folio is not None
    folio.pincount += 1
    folio.raw_references += 1024
    assert move(area, 0, 2) == [1]
    assert spot(area, 0).entry == before


def test_a_locked_page_is_passed_over() -> None:
    area = Area(1)
    area.store(0)
    folio = folio_at(area.kernel.machine, spot(area, 0).fmt, spot(area, 0).entry)
    assert folio is not None
    with folio.lock:
        assert move(area, 0, 1) == []


@pytest.mark.parametrize("access", [lambda area: area.load(0), lambda area: area.process.pin(area.start, 1)])
def test_who_needs_a_page_that_is_locked_on_the_device_sleeps(access: Callable[[Area], object]) -> None:
    area = Area(1)
    area.store(0)
    move(area, 0, 1)
    at_device = area.kernel.machine.memory.folio(spot(area, 0).fmt.pfn(spot(area, 0).entry))
    with at_device.lock, pytest.raises(WouldBlock, match="wait for a page on a device"):
        access(area)
    assert spot(area, 0).kind == DEVICE
    access(area)
    assert spot(area, 0).kind == LEAF


def test_whoever_holds_the_lock_of_a_page_on_the_device_every_pin_comes_through() -> None:
    pinned: list[list[object]] = []

    def build() -> list[Callable[[], None]]:
        area, pins = Area(1), []
        pinned.append(pins)
        area.store(0)
        move(area, 0, 1)
        at_device = area.kernel.machine.memory.folio(spot(area, 0).fmt.pfn(spot(area, 0).entry))

        def hold() -> None:
            with at_device.lock:
                pass

        return [lambda: pins.append(area.process.pin(area.start, 1)), hold]

    came_through = [(run.errors, run.deadlocked, len(pinned[-1])) == ({}, (), 1) for run in enumerate_traces(build)]
    assert len(came_through) > 1
    assert all(came_through)


def test_a_page_shared_by_a_fork_moves_for_both() -> None:
    area = Area(1)
    area.process.store(area.start, b"shared")
    child = area.process.fork()
    assert move(area, 0, 1) == [0]
    assert seek(child.mm, area.start).kind == DEVICE
    child.store(area.start, b"child!")
    assert (area.load(0, 6), child.load(area.start, 6)) == (b"shared", b"child!")
    check(area.kernel.machine)


def test_forking_and_unmapping_what_is_on_the_device_keeps_the_counts() -> None:
    area = Area(1)
    area.process.store(area.start, b"x")
    move(area, 0, 1)
    child = area.process.fork()
    check(area.kernel.machine)
    area.process.munmap(area.start, PAGE)
    check(area.kernel.machine)
    assert child.load(area.start, 1) == b"x"
    check(area.kernel.machine)


def test_file_pages_are_put_back_with_their_dirty_bit() -> None:
    kernel = Kernel()
    area = Area(1, shared=True, file=(file := kernel.disk_file(PAGE)), process=kernel.spawn())
    area.kernel = kernel
    area.store(0)
    assert move(area, 0, 1) == []
    assert spot(area, 0).fmt.flags(spot(area, 0).entry) & (DIRTY | WRITE) == DIRTY | WRITE
    assert file.folios[0].raw_dirty
    check(kernel.machine)


def test_migration_is_one_bracket() -> None:
    area = Area(2)
    area.store(0, 1)
    mmu = SecondaryMmu(area.process.mm)
    move(area, 0, 2)
    assert mmu.events == [(Event.MIGRATE, area.start, area.end)]


@pytest.mark.parametrize("loses", [False, True])
def test_a_dirty_bit_that_is_not_carried_costs_the_content(*, loses: bool) -> None:
    area = Area(1, quirks=Quirks(migrate_drops_dirty=loses))
    area.process.store(area.start, b"old")
    area.advise(Advice.FREE, 0, 1)
    area.process.store(area.start, b"new")
    move(area, 0, 1)
    area.load(0)
    area.advise(Advice.PAGEOUT, 0, 1)
    assert area.load(0, 3) == (bytes(3) if loses else b"new")


def stores_lost(quirks: Quirks) -> Iterator[bool]:
    """Whether reclaim drops what CPU 1 stored, for every trace of that store and a migration."""
    made: list[tuple[Area, list[bool]]] = []

    def build() -> list[Callable[[], None]]:
        area, stored = Area(1, quirks=quirks), []
        made.append((area, stored))
        area.process.store(area.start, b"old", cpu=1)
        area.advise(Advice.FREE, 0, 1)
        return [
            lambda: move(area, 0, 1),
            lambda: stored.append(try_store(area.process, area.start, b"new", cpu=1)),
        ]

    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        area, stored = made[-1]
        area.load(0)
        area.advise(Advice.PAGEOUT, 0, 1)
        check(area.kernel.machine)
        yield stored[0] and area.load(0, 3) != b"new"


def test_carrying_the_dirty_bit_loses_no_store_in_any_interleaving() -> None:
    lost = list(stores_lost(Quirks()))
    assert len(lost) > 5
    assert not any(lost)


def test_dropping_the_dirty_bit_loses_the_store_in_some_interleavings() -> None:
    lost = list(stores_lost(Quirks(migrate_drops_dirty=True)))
    assert any(lost)
    assert not all(lost)


def stale_loads(quirks: Quirks) -> Iterator[bool]:
    """Whether a load after a zap still sees the old page, for every trace with a migration.

    The page is shared with a child: one that is exclusive is flushed at once, to look for pins.
    """
    made: list[list[bytes | None]] = []

    def build() -> list[Callable[[], None]]:
        area, loaded = Area(1, quirks=quirks), []
        made.append(loaded)
        area.process.store(area.start, b"old")
        area.process.fork()
        area.process.load(area.start, 3, cpu=1)

        def zap_and_load() -> None:
            area.advise(Advice.DONTNEED, 0, 1)
            loaded.append(try_load(area.process, area.start, 3, cpu=1))

        return [lambda: move(area, 0, 1), zap_and_load]

    for run in enumerate_traces(build):
        assert not run.deadlocked
        assert all(isinstance(error, UseAfterFree) for error in run.errors.values())
        yield bool(run.errors) or made[-1] != [None]


def test_flushing_under_the_lock_lets_no_load_see_a_page_that_was_zapped() -> None:
    stale = list(stale_loads(Quirks()))
    assert len(stale) > 5
    assert not any(stale)


def test_flushing_late_lets_loads_see_it_in_some_interleavings() -> None:
    stale = list(stale_loads(Quirks(migrate_flushes_late=True)))
    assert any(stale)
    assert not all(stale)
