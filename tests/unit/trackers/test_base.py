"""What all trackers share: arming, closing, forks and threads."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from pagewatch.testing.epoch_contract import spots_of, written_pages
from pagewatch.trackers.base import Epoch
from pagewatch.vocab.blindspots import BlindReason
from pagewatch.vocab.errors import RangeNotTrackable, TargetGone, TrackerBusy, TrackerClosed
from pagewatch.vocab.query import Query
from pagewatch.vocab.scan import Scan
from support.fake_world import PAGE, FakeWorld
from support.forked import in_forked_child

_PAGES = 32


@pytest.fixture
def world():
    return FakeWorld()


def _area(world: FakeWorld) -> tuple[int, int]:
    start = world.map(_PAGES)
    return start, start + _PAGES * PAGE


class _InterruptedError(Exception):
    """Stands for Ctrl-C."""


def _in_thread(call: Callable[[], Epoch]) -> list[Epoch]:
    results: list[Epoch] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    thread.join()
    return results


def test_a_collect_that_is_interrupted_is_reported_by_the_next(world):
    start, end = _area(world)

    def interrupt():
        world.interrupt = lambda: None
        raise _InterruptedError

    with world.track([(start, end)]) as tracker:
        world.store(start + 3 * PAGE, b"x")
        world.interrupt = interrupt
        with pytest.raises(_InterruptedError):
            tracker.collect()
        world.store(start + 5 * PAGE, b"x")
        assert written_pages(tracker.collect(), start, PAGE) == [3, 5]
        assert written_pages(tracker.collect(), start, PAGE) == []


def test_an_interrupt_before_the_first_scan_does_not_report_the_epoch_before_again(world):
    start, end = _area(world)
    with world.track([(start, end)]) as tracker:
        world.store(start + 3 * PAGE, b"x")
        assert written_pages(tracker.collect(), start, PAGE) == [3]
        plain, world.scan = world.scan, _raise_interrupted
        with pytest.raises(_InterruptedError):
            tracker.collect()
        world.scan = plain
        assert written_pages(tracker.collect(), start, PAGE) == []


@pytest.mark.parametrize("other_collects", [False, True])
def test_what_an_interrupted_thread_did_not_get_it_gets_next(world, *, other_collects):
    """Ctrl-C after the scan, and another thread collects before the interrupted one does."""
    start, end = _area(world)
    with world.track([(start, end)]) as tracker:
        world.store(start + 3 * PAGE, b"x")
        plain, times = world.now_ns, iter((1, None))

        def interrupted_at_the_end() -> int:
            if (time := next(times)) is None:
                raise _InterruptedError
            return time

        world.now_ns = interrupted_at_the_end
        with pytest.raises(_InterruptedError):
            tracker.collect()
        world.now_ns = plain
        if other_collects:
            world.store(start + 7 * PAGE, b"x")
            assert [written_pages(epoch, start, PAGE) for epoch in _in_thread(tracker.collect)] == [[7]]
        assert written_pages(tracker.collect(), start, PAGE) == [3]
        assert written_pages(tracker.collect(), start, PAGE) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_new_memory_whose_arming_is_interrupted_is_named_and_assumed_in_the_next(world, when):
    _, end = _area(world)
    with world.track(None) as tracker:
        late = world.map(4, at=end + 16 * PAGE)
        plain, name = world.protect, f"interrupted {when} the work"

        def interrupted(start: int, stop: int) -> None:
            world.store(late + PAGE, b"just before it is protected")
            if when == "after":
                plain(start, stop)
            raise _InterruptedError(name)

        world.protect = interrupted
        with pytest.raises(_InterruptedError):
            tracker.collect()
        world.protect = plain
        epoch = tracker.collect()
        assert spots_of(epoch, BlindReason.MAPPED_LATE) == [(late, late + 4 * PAGE)]
        # Protected and not yet in the books, an empty page looks like a swapped one: more is assumed, never less.
        assert written_pages(epoch, late, PAGE) == ([0, 1, 2, 3] if when == "after" else [1])
        assert written_pages(tracker.collect(), late, PAGE) == []


def test_new_memory_that_was_just_armed_when_the_interrupt_came_is_named_and_assumed_in_the_next(world):
    _, end = _area(world)
    with world.track(None) as tracker:
        late = world.map(4, at=end + 16 * PAGE)
        plain = world.scan

        def interrupted(start: int, stop: int, query: Query, **options: bool) -> Scan:
            if start == late and world.pages[late].registered:
                raise _InterruptedError
            if start == late:
                scan = plain(start, stop, query, **options)
                world.store(late + PAGE, b"between the look and the protection")
                return scan
            return plain(start, stop, query, **options)

        world.scan = interrupted
        with pytest.raises(_InterruptedError):
            tracker.collect()
        world.scan = plain
        epoch = tracker.collect()
        assert spots_of(epoch, BlindReason.MAPPED_LATE) == [(late, late + 4 * PAGE)]
        assert written_pages(epoch, late, PAGE) == [1]


def test_a_layout_is_looked_at_again_after_an_interrupt(world):
    """All mappings were read, and new ones found, when the interrupt came."""
    _, end = _area(world)
    with world.track(None) as tracker:
        world.map(4, at=end + 16 * PAGE)
        tracker.collect()
        late = world.map(4, at=end + 64 * PAGE)
        plain, world.register = world.register, _raise_interrupted
        with pytest.raises(_InterruptedError):
            tracker.collect()
        world.register = plain
        assert spots_of(tracker.collect(), BlindReason.MAPPED_LATE) == [(late, late + 4 * PAGE)]


@pytest.mark.parametrize("call", ["collect", "arm", "close"])
def test_a_signal_handler_is_refused_while_its_thread_collects(world, call):
    start, end = _area(world)
    refused = []

    def handler() -> None:
        world.interrupt = lambda: None
        with pytest.raises(TrackerBusy, match="signal handler") as caught:
            getattr(tracker, call)()
        refused.append(caught.value)

    with world.track([(start, end)]) as tracker:
        world.store(start, b"x")
        world.interrupt = handler
        assert written_pages(tracker.collect(), start, PAGE) == [0]
        assert len(refused) == 1
        world.store(start + PAGE, b"x")
        assert written_pages(tracker.collect(), start, PAGE) == [1]


def test_a_child_forked_while_another_thread_collects_is_told_and_does_not_wait(world):
    start, end = _area(world)
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        go_on.wait(60)

    with world.track([(start, end)]) as tracker:
        world.interrupt = hold
        thread = threading.Thread(target=tracker.collect)
        thread.start()
        inside.wait(60)

        def used_in_child() -> list[str]:
            signal.alarm(20)
            said = []
            for call in (tracker.collect, tracker.arm):
                try:
                    call()
                except TrackerClosed as error:
                    said.append(str(error))
            tracker.close()
            return said

        said = in_forked_child(used_in_child)
        go_on.set()
        thread.join()
    assert [f"belongs to process {os.getpid()}" in text for text in said] == [True, True]


def test_a_collect_that_is_interrupted_while_it_arms_new_memory_names_it_in_the_next(world):
    start, end = _area(world)
    with world.track(None) as tracker:
        late = world.map(4, at=end + 16 * PAGE)
        plain, world.register = world.register, _raise_interrupted
        with pytest.raises(_InterruptedError):
            tracker.collect()
        world.register = plain
        world.store(start, b"x")
        epoch = tracker.collect()
        assert spots_of(epoch, BlindReason.MAPPED_LATE) == [(late, late + 4 * PAGE)]
        assert written_pages(epoch, start, PAGE) == [0]


def _raise_interrupted(*_: int, **__: object) -> None:
    raise _InterruptedError


def test_every_write_is_in_the_epoch_of_exactly_one_of_several_collecting_threads(world):
    start, end = _area(world)
    found: list[int] = []
    with world.track([(start, end)]) as tracker:
        for page in range(_PAGES):
            world.store(start + page * PAGE, b"x")

        def collect():
            for _ in range(5):
                found.extend(tracker.collect().regions.page_addresses().tolist())

        threads = [threading.Thread(target=collect) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert tracker.statistics().epochs == 20
    assert sorted(found) == list(range(start, end, PAGE))


def test_a_target_that_is_gone_can_still_be_closed(world):
    start, end = _area(world)
    released = []
    tracker = world.track([(start, end)], release=lambda: released.append(True))
    with tracker:
        world.unregister = _raise_gone
    assert released == [True]


def _raise_gone(*_: int) -> None:
    raise TargetGone(1)


def test_resources_are_released_once_even_if_arming_fails(world):
    released = []
    tracker = world.track([(0, PAGE)], release=lambda: released.append(True))
    with pytest.raises(RangeNotTrackable), tracker:
        pass
    tracker.close()
    assert released == [True]


def test_the_child_of_a_fork_is_told_whose_the_tracker_is(world, monkeypatch):
    start, end = _area(world)
    with world.track([(start, end)]) as tracker:
        owner = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: owner + 1)
        with pytest.raises(TrackerClosed, match=str(owner)):
            tracker.collect()
        monkeypatch.undo()


def test_a_tracker_shows_what_state_it_is_in(world):
    tracker = world.track([_area(world)])
    assert repr(tracker).endswith(" not armed, 0 epochs>")
    with tracker:
        tracker.collect()
        assert repr(tracker).endswith(" armed, 1 epoch>")
    assert repr(tracker).endswith(" closed, 1 epoch>")
