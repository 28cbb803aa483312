"""Locks: exclusion under a scheduler, errors without one, deadlocks reported."""

from collections.abc import Callable

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model.locks import Lock, RwLock
from pagewatch.steps import RMW, WouldBlock, access


def test_a_held_lock_is_not_taken_twice() -> None:
    lock = Lock("l", "lock")
    with lock:
        assert not lock.try_acquire()
        with pytest.raises(WouldBlock, match="lock"):
            lock.acquire()
    assert lock.try_acquire()


def test_readers_share_and_writers_do_not() -> None:
    lock = RwLock("l", "lock")
    with lock.shared, lock.shared:
        assert lock.try_shared()
        with pytest.raises(WouldBlock):
            lock.exclusive.acquire()
    lock.shared.release()
    with lock.exclusive:
        assert lock.is_held_exclusively()
        assert not lock.try_shared()
    assert lock.is_free()


@pytest.mark.parametrize("side", ["exclusive", "shared"])
def test_a_counter_behind_a_lock_loses_nothing_and_behind_a_shared_one_does(side: str) -> None:
    counters: list[list[int]] = []

    def build() -> list[Callable[[], None]]:
        lock, counter = RwLock("l", "lock"), [0]
        counters.append(counter)

        def add() -> None:
            with getattr(lock, side):
                access("n", RMW, "read")
                seen = counter[0]
                access("n", RMW, "write")
                counter[0] = seen + 1

        return [add, add]

    results = {counters[-1][0] for run in enumerate_traces(build) if not run.deadlocked}
    assert results == ({2} if side == "exclusive" else {1, 2})
