"""What announces different objects commutes: on the kernel itself, by trying both orders.

The reduction to traces rests on it. A look at shared state that nobody announces shows as two steps that do
not conflict and whose order somebody can tell all the same.
"""

import random
from collections.abc import Callable

import pytest

from pagewatch.explore.dependence import Access, conflict
from pagewatch.explore.engine import Execution, ScheduleMismatch, replay, run
from pagewatch.model import Kernel
from pagewatch.model.madvise import Advice
from pagewatch.model.pins import Want
from support.modelled import PAGE

Calls = list[Callable[[], object]]


def write_fault_and_unmap_of_the_other_user() -> Calls:
    process = Kernel(cpus=2).spawn()
    start = process.mmap(PAGE)
    process.store(start, b"x")
    child = process.fork()
    return [lambda: process.store(start, b"y"), lambda: child.munmap(start, PAGE)]


def move_to_a_device_and_unmap_of_the_other_user() -> Calls:
    process = Kernel(cpus=2).spawn()
    start = process.mmap(PAGE)
    process.store(start, b"x")
    child = process.fork()
    return [lambda: process.migrate_to_device(start, PAGE), lambda: child.munmap(start, PAGE)]


def page_out_and_unmap_of_the_other_user() -> Calls:
    process = Kernel(cpus=2).spawn()
    start = process.mmap(PAGE)
    process.store(start, b"x")
    child = process.fork()
    return [lambda: process.madvise(start, PAGE, Advice.PAGEOUT), lambda: child.munmap(start, PAGE)]


def page_out_and_unpin() -> Calls:
    process = Kernel(cpus=2).spawn()
    start = process.mmap(PAGE)
    process.store(start, b"x")
    pin = process.pin(start, 1, Want.PIN | Want.WRITE)
    return [lambda: process.madvise(start, PAGE, Advice.PAGEOUT), pin.release]


def fork_and_unpin() -> Calls:
    process = Kernel(cpus=2).spawn()
    start = process.mmap(PAGE)
    process.store(start, b"x")
    pin = process.pin(start, 1, Want.PIN | Want.WRITE)
    return [lambda: process.fork() and None, pin.release]


SCENARIOS = [
    write_fault_and_unmap_of_the_other_user,
    move_to_a_device_and_unmap_of_the_other_user,
    page_out_and_unmap_of_the_other_user,
    page_out_and_unpin,
    fork_and_unpin,
]


def seen(scenario: Callable[[], Calls], execute: Callable[[Calls], Execution]) -> tuple[Execution, object]:
    """An execution, and what each call did and returned."""
    results: dict[int, object] = {}

    def recorded(number: int, call: Callable[[], object]) -> Callable[[], None]:
        return lambda: results.update({number: call()})

    execution = execute([recorded(number, call) for number, call in enumerate(scenario())])
    steps = [[step.label for step in execution.steps if step.thread == thread] for thread in (0, 1)]
    return execution, (steps, results, {thread: repr(error) for thread, error in execution.errors.items()})


def at_random(seed: int) -> Callable[[Calls], Execution]:
    chance = random.Random(seed)
    stay = chance.random()  # how much rather the first goes on
    return lambda calls: run(calls, lambda able, _: min(able) if chance.random() < stay else max(able))


def in_order(schedule: list[int]) -> Callable[[Calls], Execution]:
    return lambda calls: replay(lambda: calls, schedule)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_adjacent_steps_on_different_objects_can_be_swapped_and_nobody_can_tell(scenario: Callable[[], Calls]) -> None:
    tried: set[tuple[str, str]] = set()
    for seed in range(12):
        execution, expected = seen(scenario, at_random(seed))
        for at, (one, other) in enumerate(zip(execution.steps, execution.steps[1:], strict=False)):
            if one.thread == other.thread or conflict(Access(one.key, one.kind), Access(other.key, other.kind)):
                continue
            tried.add((one.label, other.label))
            order = [*execution.schedule[:at], other.thread, one.thread, *execution.schedule[at + 2 :]]
            try:
                _, swapped = seen(scenario, in_order(order))
            except ScheduleMismatch as error:
                raise AssertionError(f"{one} and {other} cannot be swapped") from error
            assert swapped == expected, f"{one} and {other} do not commute"
    assert len(tried) > 4
