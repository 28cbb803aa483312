"""Synchronous mode: messages, sleeping, waking, and the ways not to be told."""

import errno
from collections.abc import Callable

import pytest

from pagewatch.explore.engine import replay
from pagewatch.model import Signal
from pagewatch.model.uffd.context import EventKind, Feature, Mode
from pagewatch.steps import WouldBlock
from support.modelled import PAGE, Area


def test_a_write_to_a_protected_page_sleeps_until_it_is_resolved() -> None:
    log: list[str] = []

    def build() -> list[Callable[[], None]]:
        area = Area(2)
        area.store(0, 1)
        uffd = area.armed(Feature(0))

        def write() -> None:
            area.process.store(area.start + 5, b"w")
            log.append("written")

        def monitor() -> None:
            message = uffd.read()
            log.append(f"{message.kind.name} flags {message.flags} at {message.address - area.start}")
            assert area.load(0) == b"x"
            uffd.writeprotect(area.at(1), PAGE, protect=False)
            log.append("resolved another page")
            uffd.writeprotect(area.start, PAGE, protect=False)

        return [write, monitor]

    # The writer runs until it sleeps; then only the monitor can.
    run = replay(build, ())
    assert not run.errors
    assert not run.deadlocked
    assert log == ["PAGEFAULT flags 3 at 0", "resolved another page", "written"]


def test_a_sleeper_that_nobody_wakes_is_a_deadlock() -> None:
    def build() -> list[Callable[[], None]]:
        area = Area(1)
        area.store(0)
        area.armed(Feature(0))
        return [lambda: area.store(0)]

    assert [step.label for step in replay(build, ()).deadlocked] == ["userfault: sleep"]


def test_without_a_scheduler_a_handler_stands_in_for_the_thread() -> None:
    area = Area(2)
    area.store(0, 1)
    uffd = area.armed(Feature(0))
    uffd.handle_with(lambda: uffd.writeprotect(uffd.read().address, PAGE, protect=False))
    area.store(1)
    assert area.process.pagemap(area.start, 2) == [1 << 63 | 1 << 57 | 1 << 56, 1 << 63 | 1 << 56]
    uffd.handle_with(None)
    with pytest.raises(WouldBlock):
        area.store(0)


def test_the_exact_address_is_told_only_on_request() -> None:
    for features, offset in ((Feature(0), 0), (Feature.EXACT_ADDRESS, 7)):
        area = Area(1)
        area.store(0)
        uffd = area.armed(features)
        with pytest.raises(WouldBlock):
            area.process.store(area.start + 7, b"x")
        assert uffd.read().address == area.start + offset


def test_in_sigbus_mode_nobody_is_told() -> None:
    area = Area(1)
    area.store(0)
    uffd = area.armed(Feature.SIGBUS)
    with pytest.raises(Signal, match="SIGBUS code 2"):
        area.store(0)
    with pytest.raises(OSError, match="temporarily unavailable"):
        uffd.read()


def test_a_marker_write_in_sync_mode_maps_the_page_before_it_is_told() -> None:
    area = Area(1)
    uffd = area.armed(Feature.WP_UNPOPULATED)
    with pytest.raises(WouldBlock):
        area.store(0)
    assert uffd.read().flags == 3
    assert area.process.pagemap(area.start, 1)[0] >> 63 == 1


def test_a_missing_page_is_told_to_who_asked_for_it() -> None:
    area = Area(2)
    uffd = area.process.userfaultfd(0)
    uffd.register(area.start, 2 * PAGE, Mode.MISSING)
    uffd.handle_with(lambda: uffd.copy(uffd.read().address, b"f" * PAGE) and None)
    assert area.load(1) == b"f"


def test_system_calls_fail_where_only_user_mode_may_sleep() -> None:
    area = Area(1)
    area.store(0)
    uffd = area.process.userfaultfd(0, user_mode_only=True)
    uffd.register(area.start, PAGE)
    uffd.writeprotect(area.start, PAGE)
    with pytest.raises(OSError, match="Bad address"):
        area.process.madvise(area.start, PAGE, 23)


def test_an_unknown_feature_is_einval() -> None:
    area = Area(1)
    with pytest.raises(OSError, match="UFFDIO_API") as caught:
        area.process.userfaultfd(1 << 17)
    assert caught.value.errno == errno.EINVAL


def test_asynchronous_implies_unpopulated() -> None:
    assert Area(1).process.userfaultfd(Feature.WP_ASYNC).features == Feature.WP_ASYNC | Feature.WP_UNPOPULATED


def test_events_block_their_cause_and_filling_until_they_are_read() -> None:
    area = Area(4)
    area.store(0)
    uffd = area.process.userfaultfd(Feature.EVENT_REMOVE | Feature.EVENT_UNMAP)
    uffd.register(area.start, 4 * PAGE, Mode.MISSING)
    with pytest.raises(WouldBlock):
        area.advise(4, 0, 1)
    with pytest.raises(OSError, match="temporarily unavailable"):
        uffd.copy(area.at(1), bytes(PAGE))
    message = uffd.read()
    assert (message.kind, message.address, message.end) == (EventKind.REMOVE, area.start, area.at(1))
    uffd.copy(area.at(1), bytes(PAGE))


def test_moves_and_forks_are_told_and_the_new_place_stays_watched() -> None:
    area = Area(4)
    area.store(0)
    uffd = area.armed(Feature.WP_ASYNC | Feature.EVENT_REMAP | Feature.EVENT_FORK)
    seen = []
    uffd.handle_with(lambda: seen.append(uffd.read()))
    target = area.process.mremap(area.start, 4 * PAGE, 4 * PAGE, flags=3, target=area.start - 16 * PAGE)
    child = area.process.fork()
    assert [message.kind for message in seen] == [EventKind.REMAP, EventKind.FORK]
    assert seen[0].target == target
    assert area.process.areas[0].uffd is uffd.context
    assert child.areas[0].uffd is seen[1].child
