"""The project's own tracker against two writers: a checkpoint made of what it reports is never out of date.

One writer faults as often as it takes. The other makes one attempt without the kernel, so it slips in
wherever the first one's fault has opened the page. That is few enough steps for every interleaving; with two
writers that both fault there are too many, and a fixed sample of schedules is drawn.
"""

from collections.abc import Callable, Iterator
from random import Random

from pagewatch.explore.engine import Execution, run
from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel
from pagewatch.model.walk import seek
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from support.hardware import try_store
from support.model_world import ModelWorld
from support.modelled import PAGE

WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)


class Checkpointed:
    """One tracked page, and a copy of it that is renewed whenever the page is reported."""

    def __init__(self) -> None:
        self.world = ModelWorld(Kernel(cpus=2))
        self.start = self.world.map(1)
        for cpu in (0, 1):
            self.world.process.store(self.start, b"old", cpu=cpu)
        self.tracker = self.world.track([(self.start, self.start + PAGE)])
        self.tracker.arm()
        spot = seek(self.world.process.mm, self.start)
        self._folio = self.world.kernel.machine.memory.folio(spot.fmt.pfn(spot.entry))
        self.copy = self.content()

    def content(self) -> dict[int, int]:
        """The words of the page at one instant. A copy that takes longer sees more, never less."""
        return dict(self._folio.words[0])

    def collect(self) -> None:
        """The tracker's way: look and protect in one step."""
        if self.tracker.collect().regions:
            self.copy = self.content()

    def collect_in_two_calls(self) -> None:
        """The naive way."""
        process, end = self.world.process, self.start + PAGE
        written = bool(process.scan(self.start, end, WRITTEN).regions)
        process.userfaultfd().writeprotect(self.start, PAGE)
        if written:
            self.copy = self.content()

    def write(self, cpu: int) -> None:
        self.world.process.store(self.start + 8 * cpu, b"new" + bytes([cpu]), cpu=cpu)

    def try_write(self, cpu: int) -> None:
        try_store(self.world.process, self.start + 8 * cpu, b"new" + bytes([cpu]), cpu=cpu)

    def lost(self) -> bool:
        """Whether the copy is out of date although everything was collected."""
        self.collect()
        return self.copy != self.content()


Collect = Callable[[Checkpointed], None]


def every_interleaving(collect: Collect) -> Iterator[tuple[Execution, bool]]:
    made: list[Checkpointed] = []

    def build() -> list[Callable[[], None]]:
        page = Checkpointed()
        made.append(page)
        return [lambda: collect(page), lambda: page.write(0), lambda: page.try_write(1)]

    for execution in enumerate_traces(build):
        yield execution, made.pop().lost()


def sampled(collect: Collect, n_runs: int, seed: int) -> Iterator[tuple[Execution, bool]]:
    random = Random(seed)
    for _ in range(n_runs):
        page = Checkpointed()
        threads = [
            lambda page=page: collect(page),
            lambda page=page: page.write(0),
            lambda page=page: page.write(1),
        ]
        yield run(threads, lambda runnable, _: random.choice(runnable)), page.lost()


def lost_of(runs: Iterator[tuple[Execution, bool]]) -> list[bool]:
    found = []
    for execution, lost in runs:
        assert not execution.errors
        assert not execution.deadlocked
        found.append(lost)
    return found


def test_the_tracker_loses_nothing_in_any_interleaving() -> None:
    lost = lost_of(every_interleaving(Checkpointed.collect))
    assert len(lost) > 100
    assert not any(lost)


def test_looking_and_protecting_in_two_calls_loses_a_write_in_some() -> None:
    for execution, lost in every_interleaving(Checkpointed.collect_in_two_calls):
        assert not execution.errors
        if lost:
            return
    raise AssertionError("no interleaving lost a write")


def test_with_two_writers_that_fault_a_sample_of_schedules_loses_nothing() -> None:
    assert not any(lost_of(sampled(Checkpointed.collect, 400, seed=1)))


def test_the_same_sample_finds_the_loss_of_the_naive_form() -> None:
    assert any(lost_of(sampled(Checkpointed.collect_in_two_calls, 400, seed=1)))
