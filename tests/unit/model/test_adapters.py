"""The tracker of the live kernel, unchanged, on the model: the same contract."""

from collections.abc import Iterator

import pytest

from pagewatch.model.adapters import ModelHugePages
from pagewatch.model.madvise import Advice
from pagewatch.model.walk import seek
from pagewatch.testing.epoch_contract import EpochContract
from pagewatch.testing.layout_contract import LayoutContract
from support.model_world import ModelWorld


class TestModel(EpochContract, LayoutContract):
    """Every invariant of the modelled kernel must hold after each test, too."""

    @pytest.fixture
    def world(self) -> Iterator[ModelWorld]:
        world = ModelWorld()
        yield world
        world.check()


def test_closing_a_tracker_puts_the_huge_page_together_that_its_protection_split() -> None:
    world = ModelWorld()
    n_bytes = 2 * world.kernel.machine.thp_bytes
    start = world.map(n_bytes // world.page_size)
    world.process.madvise(start, n_bytes, Advice.HUGEPAGE)
    world.store(start, b"x")
    tracker = world.track([(start, start + n_bytes)], collapse_on_close=True)
    tracker.arm()
    world.store(start + world.page_size, b"y")
    assert tracker.collect().regions.pages == 1
    assert seek(world.process.mm, start).level == 0
    tracker.close()
    assert seek(world.process.mm, start).level == 1
    world.check()


def test_what_cannot_be_huge_is_skipped() -> None:
    world = ModelWorld()
    size = world.kernel.machine.thp_bytes
    start = world.map(2 * size // world.page_size)
    world.store(start + size, b"x")
    huge = ModelHugePages(world.process)
    assert huge.huge_page_size() == size
    assert huge.collapse(start, start + 2 * size) == size
