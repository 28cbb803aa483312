"""Faults under nothing but the area's lock: when that is enough, and when they start over under the mmap lock."""

from collections.abc import Callable

import pytest

from pagewatch.explore.engine import replay
from pagewatch.model import Kernel, Process, Quirks, Signal
from pagewatch.model.invariants import broken_invariants
from pagewatch.model.madvise import Advice
from pagewatch.model.uffd.context import Feature, Mode
from support.modelled import PAGE, Area
from support.schedules import interrupted_once


def written_once() -> Area:
    """An area whose root for reverse mapping exists, so that more pages need no other lock."""
    area = Area(3)
    area.store(2)
    return area


def paged_out() -> Area:
    area = Area(3)
    area.store(0, 2)
    area.advise(Advice.PAGEOUT, 0, 1)
    return area


def armed_async() -> Area:
    area = Area(3)
    area.store(0)
    area.armed()
    return area


def watched(mode: Mode) -> Area:
    area = Area(3)
    area.store(2)
    if mode is Mode.WP:
        area.store(0)
    uffd = area.process.userfaultfd(Feature.SIGBUS)
    uffd.register(area.start, 3 * PAGE, mode)
    if mode is Mode.WP:
        uffd.writeprotect(area.start, PAGE)
    return area


def asking_for_huge_pages() -> Area:
    area = Area(512)
    area.advise(Advice.HUGEPAGE, 0, 512)
    return area


@pytest.mark.parametrize(
    ("make", "retries"),
    [
        (written_once, False),
        (armed_async, False),
        (lambda: Area(3, shared=True), False),
        (lambda: Area(3), True),
        (asking_for_huge_pages, True),
        (paged_out, True),
        (lambda: watched(Mode.MISSING), True),
        (lambda: watched(Mode.WP), True),
    ],
    ids=["anonymous", "async", "shared", "no root yet", "huge", "swapped", "missing", "sync"],
)
def test_what_needs_the_mmap_lock_starts_over_with_it(make: Callable[[], Area], *, retries: bool) -> None:
    area = make()
    run = replay(lambda: [lambda: area.store(0)], ())
    assert "vma lock" in run.order
    assert ("mmap lock" in run.order) is retries
    if retries:
        assert run.order.index("vma lock") < run.order.index("mmap lock")


@pytest.mark.parametrize(("skips", "breaks"), [(True, True), (False, False)], ids=["mmap lock only", "area's lock too"])
def test_unmapping_waits_for_faults_under_the_areas_lock(*, skips: bool, breaks: bool) -> None:
    made: list[tuple[Kernel, Process, int]] = []

    def build() -> list[Callable[[], object]]:
        kernel = Kernel(cpus=2, quirks=Quirks(areas_change_without_their_lock=skips))
        process = kernel.spawn()
        start = process.mmap(2 * PAGE)
        process.store(start, b"x")
        made.append((kernel, process, start))
        return [lambda: process.store(start + PAGE, b"y", cpu=1), lambda: process.munmap(start, 2 * PAGE)]

    broken = []
    for run in interrupted_once(build):
        assert not run.deadlocked
        harmless = all(isinstance(error, Signal) for error in run.errors.values())
        broken.append(not harmless or bool(list(broken_invariants(made[-1][0].machine))))
    assert len(broken) > 10
    assert any(broken) is breaks
