"""Stories: what happened to an address, with and without a scheduler."""

import pytest

from pagewatch.explore.engine import replay, run
from pagewatch.model import Kernel
from pagewatch.model.explain import entry_words
from pagewatch.steps import WAIT, WouldBlock, observed, wait
from support.modelled import PAGE, Area


def told(area: Area, action: object) -> list[str]:
    with area.kernel.explain(area.process, area.start, area.end - area.start) as story:
        action()
    return [event.what for event in story.events]


def test_a_first_store_is_a_fault_that_maps_a_page_and_a_retry_that_writes_it() -> None:
    area = Area(1)
    what = told(area, lambda: area.store(0))
    assert what[0] == "faults"
    assert any(words.startswith("PTE of page 0: empty -> frame") and "write" in words for words in what)
    assert what[-2].startswith("TLB of cpu0: page 0 is frame")
    assert what[-1].startswith("writes a word of frame")


def test_arming_and_a_tracked_store_show_the_bit_come_and_go() -> None:
    area = Area(1)
    area.store(0)
    uffd = area.process.userfaultfd(1 << 15)
    uffd.register(area.start, 4096)
    armed = [words for words in told(area, lambda: uffd.writeprotect(area.start, 4096)) if "->" in words]
    assert any("uffd-wp" in words.split("->")[1] for words in armed)
    lifted = [words for words in told(area, lambda: area.store(0)) if "->" in words]
    assert any("uffd-wp" in words.split("->")[0] and "uffd-wp" not in words.split("->")[1] for words in lifted)


def test_pages_outside_the_range_are_left_out() -> None:
    area = Area(2)
    area.store(0)
    with area.kernel.explain(area.process, area.start) as story:
        area.store(1)
    assert not any("page 1" in event.what or "PTE" in event.what for event in story.events)


def test_under_a_schedule_each_event_names_its_thread() -> None:
    area = Area(2)
    with area.kernel.explain(area.process, area.start, 8192) as story:
        execution = run([lambda: area.store(0), lambda: area.store(1, cpu=1)], lambda runnable, _: runnable[-1])
    assert not execution.errors
    stores = [event.thread for event in story.events if event.what.startswith("writes a word")]
    assert stores == [1, 0]


def test_observing_changes_no_execution() -> None:
    def build() -> list[object]:
        area = Area(1)
        return [lambda: area.store(0), lambda: area.store(0, cpu=1)]

    class Nobody:
        def before(self, *_: object) -> None: ...

    plain = replay(build, [])
    with observed(Nobody()):
        watched = replay(build, [])
    assert watched.steps == plain.steps


def test_a_wait_that_nobody_can_end_is_still_refused() -> None:
    class Nobody:
        def before(self, *_: object) -> None: ...

    with observed(Nobody()), pytest.raises(WouldBlock):
        wait("x", WAIT, "for ever", lambda: False)


def test_every_kind_of_entry_has_words() -> None:
    fmt = Kernel().machine.fmt.at[0]
    assert entry_words(fmt, 0) == "empty"
    assert entry_words(fmt, fmt.marker_entry(5)) == "marker [uffd-wp guard]"
    assert entry_words(fmt, fmt.swap_entry(0, 7)).startswith("swap slot 7")
    assert entry_words(fmt, fmt.pfn_entry(5, 0x42)).startswith("hwpoison of frame 0x42")
    assert entry_words(fmt, fmt.leaf(0x99, 5)) == "frame 0x99 [write dirty]"


def test_pins_of_what_is_behind_the_pages_are_told_and_others_are_not() -> None:
    area = Area(2)
    area.store(0, 1)
    with area.kernel.explain(area.process, area.start, PAGE) as story:
        area.process.pin(area.at(1), 1).release()
        assert not story.events
        area.process.pin(area.start, 1).release()
    said = [event.what.partition(" frame")[0] for event in story.events]
    assert said == ["takes a reference, without any lock, to", "makes that a pin of", "unpins"]
