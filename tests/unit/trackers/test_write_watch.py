"""Write watch, on the model: the same calls as elsewhere, and no write between get and reset."""

from collections.abc import Callable

import pytest

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, Process
from pagewatch.model.adapters import ModelProtection, ModelScanner
from pagewatch.trackers.write_watch import WriteWatch
from pagewatch.vocab.errors import RangeNotArmed
from pagewatch.vocab.scan import Scan

PAGE = 4096


class Watched:
    """A few pages under watch, all of them populated."""

    def __init__(self, n_pages: int = 8) -> None:
        self.process: Process = Kernel(cpus=2).spawn()
        self.start = self.process.mmap(n_pages * PAGE)
        self.end = self.start + n_pages * PAGE
        for page in range(n_pages):
            self.store(page)
        self.watch = WriteWatch(
            self.start, self.end, scanner=ModelScanner(self.process), protection=ModelProtection(self.process)
        )

    def store(self, *pages: int, cpu: int = 0) -> None:
        for page in pages:
            self.process.store(self.start + page * PAGE, b"x", cpu=cpu)

    def pages(self, scan: Scan) -> list[int]:
        return [(int(address) - self.start) // PAGE for address in scan.regions.page_addresses()]


def test_get_reports_and_changes_nothing() -> None:
    memory = Watched()
    memory.store(1, 2, 6)
    assert memory.pages(memory.watch.get()) == memory.pages(memory.watch.get()) == [1, 2, 6]


def test_get_and_reset_reports_each_write_once() -> None:
    memory = Watched()
    memory.store(1, 2, 6)
    assert memory.pages(memory.watch.get(reset=True)) == [1, 2, 6]
    memory.store(2)
    assert memory.pages(memory.watch.get(reset=True)) == [2]
    assert memory.pages(memory.watch.get(reset=True)) == []


def test_what_a_limit_leaves_out_stays_written() -> None:
    memory = Watched()
    memory.store(1, 2, 6)
    scan = memory.watch.get(reset=True, max_pages=2)
    assert (memory.pages(scan), scan.walk_end) == ([1, 2], memory.start + 6 * PAGE)
    assert memory.pages(memory.watch.get()) == [6]


def test_reset_alone_forgets_what_was_written() -> None:
    memory = Watched()
    memory.store(1, 2, 6)
    memory.watch.reset()
    assert memory.pages(memory.watch.get()) == []


def test_memory_mapped_anew_is_refused_instead_of_called_written_or_not() -> None:
    memory = Watched()
    memory.process.mmap(PAGE, at=memory.start + PAGE)
    for call in (memory.watch.get, memory.watch.reset):
        with pytest.raises(RangeNotArmed):
            call()


def test_after_close_others_can_watch() -> None:
    memory = Watched()
    memory.watch.close()
    again = WriteWatch(
        memory.start, memory.end, scanner=ModelScanner(memory.process), protection=ModelProtection(memory.process)
    )
    assert memory.pages(again.get()) == []


def test_no_write_falls_between_get_and_reset() -> None:
    """Every interleaving of one call with one store: the page is in this answer or in the next."""
    made: list[tuple[Watched, list[int]]] = []

    def build() -> list[Callable[[], object]]:
        memory, found = Watched(1), []
        made.append((memory, found))
        return [
            lambda: found.extend(memory.pages(memory.watch.get(reset=True))),
            lambda: memory.store(0, cpu=1),
        ]

    for run in enumerate_traces(build):
        assert not run.errors
        memory, found = made[-1]
        assert found or memory.pages(memory.watch.get()) == [0]
    assert len(made) > 3
