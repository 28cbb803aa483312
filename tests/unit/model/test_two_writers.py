"""The project's own tracker against two writers: a checkpoint made of what it reports is never out of date.

Both writers fault as often as it takes. Every trace is executed: thousands, because each of the two faults
can be answered before, within and after the collect and the other fault, and come again after the collect
has protected the page once more. Where one writer makes its attempt without the kernel there are hundreds.
"""

from collections import Counter
from collections.abc import Callable

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel
from pagewatch.model.memory import load_bytes
from pagewatch.model.walk import seek
from support.hardware import try_store
from support.model_world import ModelWorld
from support.modelled import PAGE, WRITTEN


class Checkpointed:
    """One tracked page, and a copy of it that is renewed whenever the page is reported."""

    def __init__(self) -> None:
        self.world = ModelWorld(Kernel(cpus=2))
        self.start = self.world.map(1)
        for cpu in (0, 1):
            self.world.process.store(self.start + 8 * cpu, b"old", cpu=cpu)
        self.tracker = self.world.track([(self.start, self.start + PAGE)])
        self.tracker.arm()
        spot = seek(self.world.process.mm, self.start)
        self._folio = self.world.kernel.machine.memory.folio(spot.fmt.pfn(spot.entry))
        self.copy = self.content()

    def content(self) -> bytes:
        """Both writers' words, one after the other."""
        return load_bytes(self._folio, 0, 0, 16, "checkpoint: copy")

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
        """A store that faults as often as it takes."""
        self.world.process.store(self.start + 8 * cpu, b"new", cpu=cpu)

    def try_write(self, cpu: int) -> None:
        """A store that gives up where the kernel would have to help."""
        try_store(self.world.process, self.start + 8 * cpu, b"new", cpu=cpu)

    def lost(self) -> bool:
        """Whether the copy is out of date although everything was collected."""
        self.collect()
        return self.copy != self.content()


Act = Callable[[Checkpointed, int], None]


def traces(collect: Callable[[Checkpointed], None], *writers: Act) -> Counter[bool]:
    """How many traces lose a write, and how many do not."""
    made: list[Checkpointed] = []

    def build() -> list[Callable[[], None]]:
        made[:] = [page] = [Checkpointed()]
        return [lambda: collect(page), *[lambda cpu=cpu, act=act: act(page, cpu) for cpu, act in enumerate(writers)]]

    found: Counter[bool] = Counter()
    for execution in enumerate_traces(build):
        assert not execution.errors
        assert not execution.deadlocked
        found[made[0].lost()] += 1
    return found


def test_with_one_writer_that_faults_the_tracker_loses_nothing() -> None:
    assert traces(Checkpointed.collect, Checkpointed.write, Checkpointed.try_write) == {False: 1}


def test_with_one_writer_that_faults_looking_and_protecting_in_two_calls_loses_writes_in_some() -> None:
    assert traces(Checkpointed.collect_in_two_calls, Checkpointed.write, Checkpointed.try_write) == {False: 1, True: 1}


@pytest.mark.slow
def test_with_two_writers_that_fault_the_tracker_loses_nothing() -> None:
    assert traces(Checkpointed.collect, Checkpointed.write, Checkpointed.write) == {False: 1}


@pytest.mark.slow
def test_with_two_writers_that_fault_looking_and_protecting_in_two_calls_loses_writes_in_some() -> None:
    assert traces(Checkpointed.collect_in_two_calls, Checkpointed.write, Checkpointed.write) == {False: 1, True: 1}
