"""What announces different objects commutes: on the kernel itself, by trying both orders.

The reduction to traces rests on it. A look at shared state that nobody announces shows as two steps that do
not conflict and whose order somebody can tell all the same.
"""

import random
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest

from pagewatch.explore import engine
from pagewatch.explore.dependence import Access, conflict
from pagewatch.explore.engine import Execution, Pending, ScheduleMismatch, Step, replay, run
from pagewatch.model import Kernel
from pagewatch.model.madvise import Advice
from pagewatch.model.pins import Want
from pagewatch.steps import READ, Kind, Ready, access
from support.modelled import PAGE, Area

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


def fork_and_pin_of_a_protected_page() -> Calls:
    area = Area(1)
    area.store(0)
    area.armed()
    return [lambda: area.process.fork() and None, lambda: bool(area.process.pin(area.start, 1, Want.READ).pages)]


def write_and_write_back() -> Calls:
    file = Kernel(cpus=2).disk_file(PAGE)
    file.write(0, b"x")
    return [
        lambda: file.write(0, b"y"),
        lambda: access(("test",), READ, "test: begin") or file.write_back(0),
        lambda: file.folios[0].raw_dirty,
    ]


class Scenario(NamedTuple):
    """Two calls, maybe a look at what they have left, and announcements without which their order shows."""

    calls: Callable[[], Calls]
    needed: tuple[str, ...]
    begin: tuple[tuple[int, str], ...] = ()
    """What rarely happens by chance: every other execution begins so that these threads come to these steps."""


SCENARIOS = [
    Scenario(write_fault_and_unmap_of_the_other_user, ("fault: count references",)),
    Scenario(move_to_a_device_and_unmap_of_the_other_user, ("migrate: count references",)),
    Scenario(page_out_and_unmap_of_the_other_user, ("page out: count leaves",)),
    Scenario(page_out_and_unpin, ("page out: pinned already?",)),
    Scenario(fork_and_unpin, ("fork: look for pins",)),
    Scenario(
        fork_and_pin_of_a_protected_page,
        ("gup: exclusive?", "fork: not exclusive any more"),
        begin=((1, "gup fast: take a reference"), (0, "fork: share")),
    ),
    Scenario(write_and_write_back, ("write: dirty", "write back: clean")),
]


def seen(scenario: Callable[[], Calls], execute: Callable[[Calls], Execution]) -> tuple[Execution, object]:
    """An execution, and what each call did and returned."""
    results: dict[int, object] = {}

    def recorded(number: int, call: Callable[[], object]) -> Callable[[], None]:
        return lambda: results.update({number: call()})

    one, other, *looks = scenario()
    execution = execute([recorded(0, one), recorded(1, other)])
    results.update(enumerate((look() for look in looks), 2))
    steps = [[step.label for step in execution.steps if step.thread == thread] for thread in (0, 1)]
    return execution, (steps, results, {thread: repr(error) for thread, error in execution.errors.items()})


def at_random(seed: int, begin: Sequence[tuple[int, str]]) -> Callable[[Calls], Execution]:
    chance = random.Random(seed)
    stay = chance.random()  # how much rather the first goes on
    ahead = list(begin) if seed & 1 else []

    def choose(able: tuple[int, ...], pending: Sequence[Pending]) -> int:
        while ahead:
            thread, label = ahead[0]
            if thread in able and pending[thread].label != label:
                return thread
            ahead.pop(0)
        return min(able) if chance.random() < stay else max(able)

    return lambda calls: run(calls, choose)


def in_order(schedule: list[int]) -> Callable[[Calls], Execution]:
    return lambda calls: replay(lambda: calls, schedule)


def swaps(scenario: Scenario, seed: int, of: Container[str] | None = None) -> Iterator[tuple[Step, Step, bool]]:
    """Adjacent steps on different objects of one execution, and whether nobody can tell when they are swapped.

    :param of: swap only steps with these labels.
    """
    execution, expected = seen(scenario.calls, at_random(seed, scenario.begin))
    for at, (one, other) in enumerate(pairwise(execution.steps)):
        if one.thread == other.thread or conflict(Access(one.key, one.kind), Access(other.key, other.kind)):
            continue
        if of is not None and one.label not in of and other.label not in of:
            continue
        order = [*execution.schedule[:at], other.thread, one.thread, *execution.schedule[at + 2 :]]
        try:
            yield one, other, seen(scenario.calls, in_order(order))[1] == expected
        except ScheduleMismatch:
            yield one, other, False


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.calls.__name__)
def test_adjacent_steps_on_different_objects_can_be_swapped_and_nobody_can_tell(scenario: Scenario) -> None:
    tried: set[tuple[str, str]] = set()
    for seed in range(12):
        for one, other, alike in swaps(scenario, seed):
            assert alike, f"{one} and {other} do not commute"
            tried.add((one.label, other.label))
    assert len(tried) > 4


@pytest.mark.parametrize(
    ("scenario", "label"),
    [
        pytest.param(scenario, label, id=f"{scenario.calls.__name__}-{label}")
        for scenario in SCENARIOS
        for label in scenario.needed
    ],
)
def test_where_an_announcement_is_left_out_the_order_of_some_adjacent_steps_shows(
    scenario: Scenario, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scenario proves something: what it would find is put there, and it finds it."""
    announce = engine._Hook.access
    steps_before: set[str] = set()

    def leave_out(hook: engine._Hook, key: Hashable, kind: Kind, at: str, ready: Ready | None) -> None:
        if at == label:
            steps_before.add(hook.workers[hook.current].label)
        else:
            announce(hook, key, kind, at, ready)

    monkeypatch.setattr(engine._Hook, "access", leave_out)
    told = (not alike for seed in range(500) for _, _, alike in swaps(scenario, seed, steps_before))
    assert any(told), f"nobody noticed that {label!r} was left out; it happened in {steps_before}"
