"""What all trackers share: arming, closing, forks and threads."""

import os
import threading

import pytest

from pagewatch.testing.epoch_contract import spots_of, written_pages
from pagewatch.vocab.blindspots import BlindReason
from pagewatch.vocab.errors import RangeNotTrackable, TargetGone, TrackerClosed
from support.fake_world import PAGE, FakeWorld

_PAGES = 32


@pytest.fixture
def world():
    return FakeWorld()


def _area(world: FakeWorld) -> tuple[int, int]:
    start = world.map(_PAGES)
    return start, start + _PAGES * PAGE


class _InterruptedError(Exception):
    """Stands for Ctrl-C."""


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


def _raise_interrupted(*_: int) -> None:
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
