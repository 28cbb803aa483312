"""The engine: schedules replay, enumeration is complete, deadlocks are seen."""

from collections.abc import Callable
from contextlib import suppress
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.explore.engine import Build, ScheduleMismatch, enumerate_all, replay
from pagewatch.steps import LOCK, READ, UNLOCK, WRITE, access, thread, wait


class Counter:
    """A cell that several threads increment, not atomically."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> None:
        access("n", READ, "read")
        seen = self.value
        access("n", WRITE, "write")
        self.value = seen + 1


class Mutex:
    """A lock whose state is its own; the engine only asks whether it is free."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner: object = None

    def acquire(self) -> None:
        wait(self.name, LOCK, f"take {self.name}", lambda: self.owner is None)
        self.owner = thread()

    def release(self) -> None:
        access(self.name, UNLOCK, f"drop {self.name}")
        assert self.owner == thread()
        self.owner = None


def programs(lengths: list[int]) -> Build:
    """One thread per length, each of that many steps on an object of its own."""

    def body(index: int, length: int) -> Callable[[], None]:
        def run() -> None:
            for step in range(length):
                access(index, WRITE, f"{index}.{step}")

        return run

    return lambda: [body(index, length) for index, length in enumerate(lengths)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=3))
def test_enumeration_gives_every_interleaving_once(lengths: list[int]) -> None:
    schedules = [run.schedule for run in enumerate_all(programs(lengths))]
    expected = factorial(sum(lengths))
    for length in lengths:
        expected //= factorial(length)
    assert len(schedules) == len(set(schedules)) == expected


def test_two_plain_increments_lose_one_in_some_interleavings_only() -> None:
    results = []

    def build() -> list[Callable[[], None]]:
        counter = Counter()
        results.append(counter)
        return [counter.increment, counter.increment]

    orders = [run.order for run in enumerate_all(build)]
    assert len(orders) == 6
    assert sorted(counter.value for counter in results) == [1, 1, 1, 1, 2, 2]


def test_a_replayed_schedule_gives_the_same_execution() -> None:
    build = programs([2, 2])
    for run in enumerate_all(build):
        again = replay(build, run.schedule)
        assert again.steps == run.steps
        assert again.choices == run.choices


def test_locks_in_opposite_order_deadlock_and_the_engine_says_on_what() -> None:
    def build() -> list[Callable[[], None]]:
        a, b = Mutex("a"), Mutex("b")

        def locked(first: Mutex, second: Mutex) -> None:
            first.acquire()
            second.acquire()
            second.release()
            first.release()

        return [lambda: locked(a, b), lambda: locked(b, a)]

    stuck = {tuple(step.label for step in run.deadlocked) for run in enumerate_all(build)}
    assert stuck == {(), ("take b", "take a")}


def test_a_blocked_thread_is_not_runnable_until_the_lock_is_free() -> None:
    def build() -> list[Callable[[], None]]:
        lock = Mutex("m")

        def hold() -> None:
            lock.acquire()
            lock.release()

        return [hold, hold]

    assert {run.schedule for run in enumerate_all(build)} == {(0, 0, 1, 1), (1, 1, 0, 0)}


def test_an_exception_ends_its_thread_and_is_recorded() -> None:
    def fail() -> None:
        access("x", READ, "x")
        raise ValueError("boom")

    run = replay(lambda: [fail, lambda: access("y", READ, "y")], ())
    assert run.order == ("x", "y")
    assert str(run.errors[0]) == "boom"
    assert 1 not in run.errors


def test_abandoned_threads_unwind_without_taking_part() -> None:
    log: list[str] = []

    def waits() -> None:
        try:
            wait("never", LOCK, "wait", lambda: False)
        finally:
            access("x", WRITE, "unwinding")
            log.append("unwound")

    run = replay(lambda: [waits], ())
    assert log == ["unwound"]
    assert run.steps == []
    assert [step.label for step in run.deadlocked] == ["wait"]


def test_an_error_while_unwinding_is_no_part_of_the_execution() -> None:
    def waits() -> None:
        with suppress(LookupError):
            try:
                wait("never", LOCK, "wait", lambda: False)
            finally:
                raise ValueError("while unwinding")

    assert replay(lambda: [waits], ()).errors == {}


def test_a_schedule_of_another_program_is_refused() -> None:
    with pytest.raises(ScheduleMismatch, match="thread 1 cannot run"):
        replay(programs([1, 0]), (1,))
