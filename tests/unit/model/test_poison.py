"""Failed memory: who gets which signal, what is logged, and how it travels."""

import contextlib
import signal
from collections.abc import Callable

import pytest

from pagewatch.model import Kernel, Quirks, Signal
from pagewatch.model.arch.format import HWPOISON, LEAF
from pagewatch.model.errors import BUS_ADRERR, BUS_MCEERR_AR
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature
from pagewatch.model.walk import frame_of, seek
from pagewatch.vocab.categories import Category
from support.modelled import PAGE, Area
from support.schedules import interrupted_once

FAILURES = Quirks(memory_failure=True)


def fail(area: Area, page: int) -> None:
    spot = seek(area.process.mm, area.at(page))
    area.kernel.memory_failure(frame_of(spot.fmt, spot.entry, area.at(page)))


def signal_of(area: Area, page: int) -> Signal:
    with pytest.raises(Signal) as raised:
        area.load(page)
    return raised.value


def test_an_anonymous_page_that_failed_is_a_bus_error_with_its_size_and_a_line_in_the_log() -> None:
    area = Area(2, quirks=FAILURES)
    area.store(0, 1)
    fail(area, 1)
    assert seek(area.process.mm, area.at(1)).kind == HWPOISON
    error = signal_of(area, 1)
    assert (error.signo, error.code, error.lsb) == (signal.SIGBUS, BUS_MCEERR_AR, 12)
    assert f"{area.at(1):#x}" in area.kernel.log[-1]
    assert area.load(0) == b"x"
    check(area.kernel.machine)


def test_without_the_configuration_it_is_a_plain_bus_error_and_nothing_is_logged() -> None:
    area = Area(1)
    area.store(0)
    fail(area, 0)
    logged = len(area.kernel.log)
    error = signal_of(area, 0)
    assert (error.code, error.lsb) == (BUS_ADRERR, 0)
    assert len(area.kernel.log) == logged


def test_a_marker_answers_like_the_real_thing() -> None:
    area = Area(1, quirks=FAILURES)
    area.process.userfaultfd(Feature.POISON).register(area.start, PAGE)
    uffd = area.process.mm.vmas.at(area.start).uffd
    assert uffd is not None
    area.process.madvise(area.start, PAGE, Advice.DONTNEED)
    other = area.process.userfaultfd(Feature.POISON)
    other.poison(area.start, PAGE)
    assert signal_of(area, 0).code == BUS_MCEERR_AR
    assert area.categories(0) >= Category.SWAPPED


def file_area(kernel: Kernel, file: object, *, store: bool) -> Area:
    area = Area(1, shared=True, file=file, process=kernel.spawn())
    area.kernel = kernel
    if store:
        area.store(0)
    else:
        area.load(0)
    return area


def test_a_clean_page_of_a_file_is_read_again() -> None:
    kernel = Kernel(quirks=FAILURES)
    file = kernel.disk_file(PAGE)
    file.write(0, b"on disk")
    file.write_back(0)
    area = file_area(kernel, file, store=False)
    before = seek(area.process.mm, area.start).entry
    fail(area, 0)
    assert area.load(0, 7) == b"on disk"
    assert seek(area.process.mm, area.start).entry != before
    check(kernel.machine)


def test_a_dirty_page_of_a_file_is_lost_for_every_mapping() -> None:
    kernel = Kernel(quirks=FAILURES)
    file = kernel.disk_file(PAGE)
    area = file_area(kernel, file, store=True)
    other = file_area(kernel, file, store=False)
    fail(area, 0)
    assert signal_of(area, 0).code == signal_of(other, 0).code == BUS_MCEERR_AR
    late = Area(1, shared=True, file=file, process=kernel.spawn())
    assert signal_of(late, 0).code == BUS_MCEERR_AR


def test_a_fork_inherits_it_and_dropping_the_memory_ends_it() -> None:
    area = Area(1, quirks=FAILURES)
    area.store(0)
    fail(area, 0)
    child = area.process.fork()
    with pytest.raises(Signal):
        child.load(area.start, 1)
    area.advise(Advice.DONTNEED, 0, 1)
    assert area.load(0) == b"\0"
    check(area.kernel.machine)


def test_poison_moves_to_another_machine_by_address() -> None:
    source, target = Area(4, quirks=FAILURES), Area(4, quirks=FAILURES)
    source.store(0, 1, 2)
    fail(source, 1)
    poisoned = source.process.poisoned_addresses(source.start, source.end)
    assert poisoned == [source.at(1)]
    uffd = target.process.userfaultfd(Feature.POISON)
    uffd.register(target.start, 4 * PAGE)
    for address in poisoned:
        uffd.poison(address - source.start + target.start, PAGE)
    assert signal_of(target, 1).code == BUS_MCEERR_AR
    assert target.process.poisoned_addresses(target.start, target.end) == [target.at(1)]
    target.store(0, 2)
    check(target.kernel.machine)


def test_a_frame_that_nobody_uses_is_only_logged() -> None:
    kernel = Kernel()
    kernel.memory_failure(0x123456)
    assert kernel.log == ["Memory failure: 0x123456"]


@pytest.mark.parametrize("of_file", [True, False], ids=["file", "anonymous"])
@pytest.mark.parametrize("first", [0, 1], ids=["failure interrupted", "munmap interrupted"])
def test_a_page_fails_while_its_area_is_unmapped_and_nobody_walks_into_freed_tables(
    first: int, *, of_file: bool
) -> None:
    kernels: list[Kernel] = []

    def build() -> list[Callable[[], None]]:
        kernel = Kernel(cpus=2, quirks=FAILURES)
        kernels.append(kernel)
        area = Area(1, shared=of_file, file=kernel.disk_file(PAGE) if of_file else None, process=kernel.spawn())
        area.kernel = kernel
        area.store(0)
        pfn = seek(area.process.mm, area.start).fmt.pfn(seek(area.process.mm, area.start).entry)
        return [lambda: kernel.memory_failure(pfn), lambda: area.process.munmap(area.start, PAGE)]

    runs = list(interrupted_once(build, first=first))
    assert len(runs) > 20
    assert not any(run.errors or run.deadlocked for run in runs)
    for kernel in kernels:
        check(kernel.machine)


HUGE = 2 << 20
SMALL = HUGE // PAGE


def huge_area(**mmap: object) -> Area:
    """Two huge pages of address space, of which the first is one huge page, all of it written."""
    area = Area(2 * SMALL, quirks=FAILURES, **mmap)
    area.store(*range(SMALL))
    area.advise(Advice.COLLAPSE, 0, SMALL)
    area.load(0)
    assert area.categories(0) & Category.HUGE
    return area


def test_of_a_transparent_huge_page_only_the_page_that_failed_is_lost() -> None:
    area = huge_area()
    fail(area, 7)
    assert area.load(6) == area.load(8) == b"x"
    error = signal_of(area, 7)
    assert (error.code, error.lsb) == (BUS_MCEERR_AR, 12)
    assert area.process.poisoned_addresses(area.start, area.end) == [area.at(7)]
    check(area.kernel.machine)


def test_a_huge_page_that_is_pinned_cannot_be_split_and_stays_mapped() -> None:
    area = huge_area()
    pin = area.process.pin(area.at(3), 1)
    fail(area, 7)
    assert area.load(7) == b"x"
    assert area.kernel.log[-1].endswith("unsplit thp: Failed")
    pin.release()
    check(area.kernel.machine)


def test_of_a_huge_page_in_a_file_only_the_page_that_failed_is_lost_in_every_mapping() -> None:
    area = huge_area(shared=True)
    child = area.process.fork()
    fail(area, 7)
    assert area.load(6) == b"x"
    assert signal_of(area, 7).code == BUS_MCEERR_AR
    with pytest.raises(Signal):
        child.load(area.at(7), 1)
    assert child.load(area.at(8), 1) == b"x"
    check(area.kernel.machine)


@pytest.mark.parametrize("shared", [False, True])
def test_a_hugetlb_page_is_lost_as_a_whole_with_its_own_size(*, shared: bool) -> None:
    area = Area(2 * SMALL, quirks=FAILURES, huge="2M", shared=shared)
    area.store(0, SMALL)
    fail(area, 7)
    error = signal_of(area, 100)
    assert (error.code, error.lsb) == (BUS_MCEERR_AR, 21)
    assert area.load(SMALL) == b"x"
    assert area.process.poisoned_addresses(area.start, area.end) == [area.at(page) for page in range(SMALL)]
    check(area.kernel.machine)


def test_a_hugetlb_page_of_a_file_is_lost_for_every_mapping_also_for_later_ones() -> None:
    kernel = Kernel(quirks=FAILURES)
    file = kernel.memfd(HUGE, huge="2M")
    area, other = (Area(SMALL, shared=True, file=file, process=kernel.spawn()) for _ in range(2))
    area.kernel = other.kernel = kernel
    area.store(0)
    other.load(0)
    fail(area, 0)
    assert signal_of(area, 5).code == signal_of(other, 5).code == BUS_MCEERR_AR
    late = Area(SMALL, shared=True, file=file, process=kernel.spawn())
    assert signal_of(late, 0).code == BUS_MCEERR_AR
    check(kernel.machine)


def test_a_page_table_of_huge_pages_that_is_shared_is_let_go_of_first() -> None:
    kernel = Kernel(quirks=FAILURES)
    file = kernel.memfd(1 << 30, huge="2M")
    areas = [Area((1 << 30) // PAGE, shared=True, file=file, process=kernel.spawn(), at=1 << 32) for _ in range(2)]
    for area in areas:
        area.kernel = kernel
        area.store(0)
    assert seek(areas[0].process.mm, 1 << 32).table is seek(areas[1].process.mm, 1 << 32).table
    fail(areas[0], 0)
    assert {signal_of(area, 5).code for area in areas} == {BUS_MCEERR_AR}
    check(kernel.machine)


def test_a_frame_that_fails_twice_at_once_is_taken_out_of_use_once() -> None:
    areas: list[Area] = []

    def build() -> list[Callable[[], object]]:
        area = Area(1, quirks=FAILURES)
        area.store(0)
        areas.append(area)
        spot = seek(area.process.mm, area.start)
        pfn = frame_of(spot.fmt, spot.entry, area.start)
        return [lambda: area.kernel.memory_failure(pfn), lambda: area.kernel.memory_failure(pfn)]

    for run in interrupted_once(build):
        assert not run.errors
        assert not run.deadlocked
        check(areas[-1].kernel.machine)
        assert signal_of(areas[-1], 0).code == BUS_MCEERR_AR
    assert len(areas) > 5


@pytest.mark.parametrize("store", [False, True], ids=["read", "private write"])
def test_a_fault_beside_the_failure_never_maps_failed_memory(*, store: bool) -> None:
    """The fault has looked whether the page failed, and maps it when the failure has been through all mappings."""
    others: list[Area] = []

    def build() -> list[Callable[[], object]]:
        kernel = Kernel(quirks=FAILURES)
        file = kernel.memfd(PAGE)
        area = file_area(kernel, file, store=True)
        other = Area(1, shared=not store, file=file, process=kernel.spawn())
        other.kernel = kernel
        others.append(other)

        def fault() -> None:
            with contextlib.suppress(Signal):
                other.store(0) if store else other.load(0)

        return [fault, lambda: fail(area, 0)]

    outcomes = set()
    for run in interrupted_once(build):
        assert not run.errors
        assert not run.deadlocked
        check(others[-1].kernel.machine)
        mapped = seek(others[-1].process.mm, others[-1].start)
        outcomes.add(mapped.kind)
        if not store or mapped.kind != LEAF:
            assert signal_of(others[-1], 0).code == BUS_MCEERR_AR
    assert len(others) > 20
    # A private copy made before is as good as ever.
    assert (LEAF in outcomes) is store
