"""Bounded preemption: what is found, what is left out, and that no schedule comes twice."""

from collections.abc import Callable

import pytest

from pagewatch.explore.bounded import PATIENCE, enumerate_bounded
from pagewatch.explore.engine import enumerate_all
from pagewatch.steps import READ, WRITE, access


class Counter:
    """A counter that two threads increase without a lock, and something of each thread's own."""

    def __init__(self) -> None:
        self.value = 0

    def increase(self, thread: int, times: int) -> Callable[[], None]:
        def body() -> None:
            for _ in range(times):
                access(("own", thread), WRITE, "own")
                access("counter", READ, "read")
                seen = self.value
                access("counter", WRITE, "write")
                self.value = seen + 1

        return body


def values(n_preemptions: int, *, times: int = 1, before: Callable[[str], bool] | None = None) -> list[int]:
    made: list[Counter] = []

    def build() -> list[Callable[[], None]]:
        made.append(Counter())
        return [made[-1].increase(thread, times) for thread in (0, 1)]

    return [made[-1].value for _ in enumerate_bounded(build, n_preemptions, before=before)]


def test_without_preemptions_threads_run_one_after_the_other() -> None:
    assert values(0) == [2, 2]


def test_one_preemption_finds_a_lost_update() -> None:
    assert 1 in values(1)


def orders(n_preemptions: int, *programs: str) -> set[str]:
    """The orders of steps, each a letter; small letters are a thread's own, capitals touch what both touch."""

    def body(thread: int, program: str) -> Callable[[], None]:
        def run() -> None:
            for step in program:
                access("both" if step.isupper() else ("own", thread), WRITE, step)

        return run

    runs = enumerate_bounded(lambda: [body(*each) for each in enumerate(programs)], n_preemptions)
    return {"".join(run.order) for run in runs}


def test_an_order_that_takes_two_preemptions_is_found_with_two() -> None:
    assert "AXBCY" not in orders(1, "ABC", "XY")
    assert "AXBCY" in orders(2, "ABC", "XY")


def test_threads_are_stopped_only_before_steps_that_conflict() -> None:
    found = orders(9, "Aab", "Xxy")
    assert all("ab" in order and "xy" in order for order in found)
    assert {"AabXxy", "XxyAab"} <= found


@pytest.mark.parametrize("n_preemptions", [0, 1, 2, 3])
def test_no_schedule_comes_twice(n_preemptions: int) -> None:
    schedules = []

    def build() -> list[Callable[[], None]]:
        counter = Counter()
        return [counter.increase(thread, 2) for thread in (0, 1)]

    schedules = [run.schedule for run in enumerate_bounded(build, n_preemptions)]
    assert len(schedules) == len(set(schedules))


def test_with_as_many_as_there_are_steps_every_outcome_is_found() -> None:
    made: list[Counter] = []

    def build() -> list[Callable[[], None]]:
        made.append(Counter())
        return [made[-1].increase(thread, 2) for thread in (0, 1)]

    everything = {made[-1].value for _ in enumerate_all(build)}
    assert {made[-1].value for _ in enumerate_bounded(build, 12)} == everything


def test_labels_can_say_where_to_stop() -> None:
    assert 1 not in values(2, before=lambda label: label == "own")
    assert 1 in values(2, before=lambda label: label == "write")


def test_a_thread_that_tries_for_ever_gives_way() -> None:
    def build() -> list[Callable[[], None]]:
        done: list[bool] = []

        def spin() -> None:
            while not done:
                access("flag", READ, "try")

        def end() -> None:
            access("flag", WRITE, "set")
            done.append(True)

        return [spin, end]

    runs = list(enumerate_bounded(build, 0))
    assert max(len(run.steps) for run in runs) >= PATIENCE
    assert not any(run.errors or run.deadlocked for run in runs)
