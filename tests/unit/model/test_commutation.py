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
from pagewatch.model import Kernel, Signal
from pagewatch.model.foliosplit import try_split_folio
from pagewatch.model.madvise import Advice
from pagewatch.model.pins import Want
from pagewatch.steps import READ, Kind, Ready, access, thread
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
    write_back = later(lambda: file.write_back(0))
    return [lambda: file.write(0, b"y"), write_back, lambda: file.folios[0].raw_dirty]


def unpin_and_write_back() -> Calls:
    file = (kernel := Kernel(cpus=2)).disk_file(PAGE)
    area = Area(1, shared=True, file=file, process=kernel.spawn())
    area.store(0)
    pin = area.process.pin(area.start, 1, Want.PIN | Want.WRITE)

    def write_back_twice() -> None:
        file.write_back(0)
        file.write_back(0)

    return [later(pin.release), later(write_back_twice), lambda: file.folios[0].raw_dirty]


def pin_and_unmap_on_another_cpu() -> Calls:
    area = Area(1)
    area.store(0)
    return [lambda: pinned(area, cpu=1), lambda: area.process.munmap(area.start, PAGE)]


def pinned(area: Area, cpu: int) -> object:
    try:
        return len(area.process.pin(area.start, 1, Want.WRITE, cpu=cpu).pages)
    except OSError as error:
        return error.errno


def swap_in_and_unmap_of_the_other_user() -> Calls:
    area = Area(1)
    area.store(0)
    area.advise(Advice.PAGEOUT, 0, 1)
    child = area.process.fork()
    return [lambda: area.process.load(area.start, 1), lambda: child.munmap(area.start, PAGE)]


def swap_in_on_two_cpus() -> Calls:
    area = Area(1)
    area.store(0)
    area.advise(Advice.PAGEOUT, 0, 1)
    return [lambda: area.process.load(area.start, 1, cpu=0), lambda: area.process.load(area.start, 1, cpu=1)]


def page_out_again_and_unmap_of_the_other_user() -> Calls:
    area = Area(1)
    area.store(0)
    area.advise(Advice.PAGEOUT, 0, 1)
    child = area.process.fork()
    area.load(0)
    return [lambda: area.advise(Advice.PAGEOUT, 0, 1), lambda: child.munmap(area.start, PAGE)]


def look_into_the_swap_cache_and_free_the_slot() -> Calls:
    machine = Kernel().machine
    swap, memory = machine.swap, machine.memory
    offset = swap.write_out({})
    folio = swap.read_in(memory, offset)
    assert folio is not None
    return [later(lambda: swap.holds(folio, "holds")), later(lambda: swap.release(memory, offset))]


def get_a_frame_and_split_its_folio() -> Calls:
    memory = Kernel().machine.memory
    folio = memory.alloc(2)

    def get() -> object:
        found = memory.try_get(folio.pfn + 1, "get")
        return None if found is None else found.order

    def split() -> object:
        return memory.freeze(folio, 1, "freeze") and len(memory.split(folio))

    return [later(get), later(split), lambda: [part.raw_references for part in memory.folios.values()]]


def get_a_frame_and_free_its_folio() -> Calls:
    memory = Kernel().machine.memory
    folio = memory.alloc(2)
    return [
        later(lambda: memory.try_get(folio.pfn + 1, "get") is not None),
        later(lambda: memory.put(folio, "put")),
        lambda: len(memory.folios),
    ]


def read_a_file_and_split_its_folio() -> Calls:
    kernel = Kernel()
    file = kernel.memfd(4 * PAGE)
    folio = kernel.machine.memory.alloc(2)
    file.insert(0, folio)
    return [
        later(lambda: file.bring_in(1).order),
        later(lambda: try_split_folio(kernel.machine, folio, at=1)),
        lambda: sorted((index, found.order, found.raw_references) for index, found in file.folios.items()),
    ]


def first_faults_on_two_cpus() -> Calls:
    area = Area(2)
    return [lambda: area.store(0, cpu=0), lambda: area.store(1, cpu=1), lambda: roots(area)]


def roots(area: Area) -> object:
    return [None if vma.anon_vma is None else len(vma.anon_vma.areas) for vma in area.process.areas]


def split_of_an_area_and_device_move_by_its_child() -> Calls:
    area = Area(2)
    area.store(0, 1)
    child = area.process.fork()
    return [
        lambda: area.process.madvise(area.at(1), PAGE, Advice.DONTFORK),
        lambda: child.migrate_to_device(area.start, 2 * PAGE),
    ]


def merge_of_an_area_without_a_root_and_device_move_by_the_child() -> Calls:
    area = Area(2)
    area.process.madvise(area.at(1), PAGE, Advice.NOHUGEPAGE)
    area.store(1)
    child = area.process.fork()
    return [
        lambda: area.process.madvise(area.start, PAGE, Advice.NOHUGEPAGE),
        lambda: child.migrate_to_device(area.at(1), PAGE),
    ]


def fault_and_failure_of_the_page() -> Calls:
    file = (kernel := Kernel(cpus=2)).memfd(PAGE)
    file.write(0, b"x")
    area = Area(1, shared=True, file=file, process=kernel.spawn())
    pfn = file.folios[0].pfn

    def fault() -> str:
        try:
            area.store(0)
        except Signal as signal:
            return str(signal)
        return "stored"

    return [fault, later(lambda: kernel.memory_failure(pfn))]


def later(call: Callable[[], object]) -> Callable[[], object]:
    """A call behind some steps that concern nobody else."""

    def with_steps_before() -> object:
        for number in range(4):
            access(("test", thread()), READ, f"test: {number}")
        return call()

    return with_steps_before


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
    Scenario(unpin_and_write_back, ("unpin: dirty already?", "unpin: dirty")),
    Scenario(
        pin_and_unmap_on_another_cpu,
        ("tlb: first run", "flush: who ran it?"),
        begin=((1, "flush: who ran it?"), (0, "tlb: first run")),
    ),
    Scenario(swap_in_and_unmap_of_the_other_user, ("swap: free",)),
    Scenario(swap_in_on_two_cpus, ("swap cache: look up",), begin=((1, "swap cache: look up"), (0, "swap: free"))),
    Scenario(page_out_again_and_unmap_of_the_other_user, ("swap: write again",)),
    Scenario(first_faults_on_two_cpus, ("fault: has the area a root?", "rmap: give the area a root")),
    Scenario(
        split_of_an_area_and_device_move_by_its_child,
        ("anon_vma lock",),
        begin=((1, "migrate: release the old page"), (0, "areas: insert")),
    ),
    Scenario(
        merge_of_an_area_without_a_root_and_device_move_by_the_child,
        ("anon_vma lock",),
        begin=((1, "migrate: unmap"), (0, "areas: the root of both")),
    ),
    Scenario(
        fault_and_failure_of_the_page,
        ("fault: failed?", "memory failure: poisoned now"),
        begin=((0, "fault: failed?"), (1, "memory failure: poisoned now")),
    ),
    Scenario(look_into_the_swap_cache_and_free_the_slot, ("holds", "swap: free")),
    Scenario(get_a_frame_and_split_its_folio, ("memory: which folio?", "memory: a large folio goes", "get", "freeze")),
    Scenario(get_a_frame_and_free_its_folio, ("get", "put")),
    Scenario(
        read_a_file_and_split_its_folio,
        ("page cache: find or add", "page cache: get", "split: freeze", "split: replace in the page cache"),
    ),
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
