"""Pins: counted as the kernel counts them, and seen by who must not take a pinned page away."""

from collections.abc import Callable

import pytest

from pagewatch.explore.engine import enumerate_all
from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel
from pagewatch.model.adapters import ModelLayout
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.memory import PIN_BIAS, load_bytes
from pagewatch.model.pins import Page, Pin, Want, grab
from pagewatch.vocab.blindspots import BlindReason
from support.modelled import PAGE, Area


def test_a_pin_counts_as_1024_references_of_a_small_folio_and_one_of_a_large() -> None:
    area = Area(512)
    area.store(0)
    with area.process.pin(area.start, 1) as pin:
        folio = pin.pages[0].folio
        assert (folio.raw_references, folio.pincount, folio.raw_maybe_pinned) == (1 + PIN_BIAS, 1, True)
        check(area.kernel.machine)
    assert (folio.raw_references, folio.raw_maybe_pinned) == (1, False)
    area.advise(Advice.COLLAPSE, 0, 512)
    with area.process.pin(area.start, 3) as pin:
        folio = pin.pages[0].folio
        assert (folio.raw_references, folio.pincount, folio.raw_maybe_pinned) == (1 + 3, 3, True)
        check(area.kernel.machine)


@pytest.mark.parametrize("order", [0, 9])
def test_a_pin_is_there_until_it_is_released_and_not_only_until_the_step_before(order: int) -> None:
    """The traces tell the same as all interleavings: what was written, and whether it looks pinned then."""
    seen: list[tuple[bool, bool]] = []

    def build() -> list[Callable[[], None]]:
        machine = Kernel().machine
        want = Want.PIN | Want.WRITE
        folio = machine.memory.alloc(order)
        grab(machine.memory, folio, want)
        pin = Pin(machine, [Page(folio, 0)], want)

        def device() -> None:
            pin.write(0, b"written!")
            pin.release()

        def look() -> None:
            written = load_bytes(folio, 0, 0, 8, "test: look") == b"written!"
            seen.append((written, machine.memory.look_for_pins(folio, "test: look for pins")))

        return [device, look]

    outcomes = []
    for enumerate_runs in (enumerate_all, enumerate_traces):
        seen.clear()
        assert not any(run.errors for run in enumerate_runs(build))
        outcomes.append(set(seen))
    assert outcomes[0] == outcomes[1] == {(False, False), (False, True), (True, False), (True, True)}


def test_a_device_writes_where_it_pinned_whatever_the_page_tables_say() -> None:
    area = Area(1)
    area.store(0)
    with area.process.pin(area.start, 1) as pin:
        area.armed()
        pin.write(5, b"dma")
        assert area.pages() == []
        assert area.load(0, 8)[5:] == b"dma"
        assert pin.read(5, 3) == b"dma"


def test_a_page_pinned_after_it_was_armed_reads_as_written_at_once() -> None:
    area = Area(1)
    area.store(0)
    area.armed()
    with area.process.pin(area.start, 1) as pin:
        assert area.pages() == [0]
        pin.write(0, b"y")
    assert area.load(0) == b"y"


def test_what_is_pinned_is_a_blind_spot_of_the_layout() -> None:
    area = Area(4)
    layout = ModelLayout(area.process)
    assert layout.pins() == ()
    with area.process.pin(area.at(1), 2):
        spots = layout.pins()
        assert [(spot.start, spot.end, spot.reason) for spot in spots] == [(area.at(1), area.at(3), BlindReason.PINNED)]
        assert layout.pins() is spots
    assert layout.pins() == ()


def test_of_a_huge_page_everything_is_blind_while_any_of_it_is_pinned() -> None:
    area = Area(512)
    area.store(0)
    area.advise(Advice.COLLAPSE, 0, 512)
    with area.process.pin(area.at(7), 1):
        assert area.process.pinned_addresses() == [area.at(page) for page in range(512)]


def test_a_pinned_page_is_neither_collapsed_nor_paged_out() -> None:
    area = Area(512)
    area.store(0, 1)
    with area.process.pin(area.start, 1) as pin:
        with pytest.raises(OSError, match="Resource temporarily unavailable"):
            area.advise(Advice.COLLAPSE, 0, 512)
        area.advise(Advice.PAGEOUT, 0, 1)
        area.store(0)
        assert pin.read(0, 1) == b"x"
    area.advise(Advice.COLLAPSE, 0, 512)
    check(area.kernel.machine)


def test_fork_splits_a_pinned_huge_page_and_copies_what_it_must() -> None:
    area = Area(512)
    area.store(0, 3)
    area.advise(Advice.COLLAPSE, 0, 512)
    with area.process.pin(area.at(3), 1) as pin:
        child = area.process.fork()
        area.process.store(area.at(3), b"later")
        assert pin.read(0, 5) == b"later"
        assert child.load(area.at(3), 5) == b"x\0\0\0\0"
        check(area.kernel.machine)


def test_the_zero_page_is_not_counted() -> None:
    area = Area(1)
    area.load(0)
    zero = area.kernel.machine.memory.zero
    pin = area.process.pin(area.start, 1, Want.READ)
    assert pin.pages[0].folio is zero
    assert (zero.raw_references, zero.pincount) == (1, 0)
    pin.release()
    pin.release()
    check(area.kernel.machine)


def test_pinning_stops_at_the_first_page_that_cannot_be_had() -> None:
    process = Kernel().spawn()
    start = process.mmap(2 * PAGE)
    process.munmap(start + PAGE, PAGE)
    with process.pin(start, 2) as pin:
        assert len(pin.pages) == 1
    with pytest.raises(OSError, match="Bad address"):
        process.pin(start + PAGE, 1)
