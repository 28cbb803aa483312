"""Which range a scan flushes: narrowing it was proposed in review and left aside. Every interleaving.

Against stores, and other scans, either range will do: what a scan protects it flushes, under the lock. The
difference shows where a page of the same table was protected by UFFDIO_WRITEPROTECT, which flushes after it
dropped the lock. The scan calls that page clean. If it returns before that flush, CPUs may still
store to the page through old translations, and no later scan will tell. The kernel's range ends where
the walk of the table ended, so it happens to reach pages behind the last one it protected; those before
the first it never reaches. Only a look at the pending-flush counter would make either range safe.
"""

from collections.abc import Callable, Iterator

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Quirks
from pagewatch.model.scan.call import WP_MATCHING
from pagewatch.model.tlb import flush_mm
from pagewatch.model.walk import seek
from pagewatch.steps import RMW, access
from support.hardware import try_store
from support.modelled import WRITTEN, Area

KERNEL, NARROWED = Quirks(), Quirks(scan_flushes_only_changes=True)


def written_area(quirks: Quirks) -> Area:
    """Two pages under tracking, both written since, and remembered as writable by CPU 1."""
    area = Area(2, quirks=quirks)
    area.store(0, 1, cpu=1)
    area.armed()
    area.store(0, 1, cpu=1)
    return area


def scan(area: Area) -> list[int]:
    return area.pages(WRITTEN, flags=WP_MATCHING)


@pytest.mark.parametrize("quirks", [KERNEL, NARROWED])
@pytest.mark.parametrize("page", [0, 1])
def test_against_a_store_either_range_loses_nothing(quirks: Quirks, page: int) -> None:
    made: list[tuple[list[int], list[bool]]] = []

    def build() -> list[Callable[[], None]]:
        area, reported, stored = written_area(quirks), [], []
        area.raw(WRITTEN, first=1 - page, last=2 - page, flags=WP_MATCHING)  # the other page is protected
        made.append((reported, stored))
        return [
            lambda: reported.extend(scan(area)),
            lambda: stored.append(try_store(area.process, area.at(page), b"new", cpu=1)),
        ]

    lost = []
    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        reported, stored = made[-1]
        lost.append(stored[0] and page not in reported)
    assert len(lost) > 1
    assert not any(lost)


def lost_behind_a_protect(quirks: Quirks, protected: int) -> Iterator[bool]:
    """Whether a store after a scan that called its page clean is lost, while that page's flush is pending."""
    made: list[tuple[Area, list[bool]]] = []

    def build() -> list[Callable[[], None]]:
        area, lost = written_area(quirks), []
        made.append((area, lost))
        mm = area.process.mm
        # UFFDIO_WRITEPROTECT stands between change and flush.
        spot = seek(mm, area.at(protected))
        spot.table.write(spot.slot, spot.fmt.mkuffd_wp(spot.entry), "protect: put back")
        mm.pending_flushes += 1

        def finish_protect() -> None:
            flush_mm(mm)
            access(("pending flushes", mm.id), RMW, "protect: flushed")
            mm.pending_flushes -= 1

        def scan_then_store() -> None:
            assert scan(area) == [1 - protected]
            lost.append(try_store(area.process, area.at(protected), b"new", cpu=1))

        return [finish_protect, scan_then_store]

    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        yield made[-1][1] == [True]


def test_the_narrowed_range_loses_a_store_to_a_page_behind_the_last_change() -> None:
    assert any(lost_behind_a_protect(NARROWED, protected=1))


def test_the_kernels_range_does_not_lose_that_one() -> None:
    lost = list(lost_behind_a_protect(KERNEL, protected=1))
    assert len(lost) > 1
    assert not any(lost)


@pytest.mark.parametrize("quirks", [KERNEL, NARROWED])
def test_either_range_loses_one_to_a_page_before_the_first_change(quirks: Quirks) -> None:
    assert any(lost_behind_a_protect(quirks, protected=0))
