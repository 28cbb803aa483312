"""The tracker of the live kernel, unchanged, on the model: the same contract."""

from collections.abc import Iterator

import pytest

from pagewatch.model import Kernel
from pagewatch.model.adapters import ModelHugePages, ModelLayout
from pagewatch.model.madvise import Advice
from pagewatch.model.pins import Want
from pagewatch.model.walk import seek
from pagewatch.testing.epoch_contract import EpochContract
from pagewatch.testing.layout_contract import LayoutContract
from pagewatch.vocab.blindspots import BlindReason
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


def test_pinned_pages_are_blind_spots_that_touching_ones_share() -> None:
    world = ModelWorld()
    layout = ModelLayout(world.process)
    assert layout.pins() == ()
    start, page = world.map(8), world.page_size
    with world.process.pin(start, 2), world.process.pin(start + 4 * page, 1):
        pins = layout.pins()
        assert [(spot.start, spot.end, spot.reason) for spot in pins] == [
            (start, start + 2 * page, BlindReason.PINNED),
            (start + 4 * page, start + 5 * page, BlindReason.PINNED),
        ]
        assert layout.pins() is pins
    assert layout.pins() == ()


def test_a_tracker_names_what_was_pinned_when_it_was_armed() -> None:
    world = ModelWorld()
    start, page = world.map(4), world.page_size
    pin = world.process.pin(start + page, 1, Want.WRITE)
    tracker = world.track([(start, start + 4 * page)])
    tracker.arm()
    assert tracker.collect().regions.pages == 0
    pin.write(0, b"unseen")
    epoch = tracker.collect()
    assert epoch.regions.pages == 0
    assert [(spot.start, spot.end) for spot in epoch.blind_spots] == [(start + page, start + 2 * page)]
    pin.release()


@pytest.mark.parametrize(("arch", "size"), [("x86_64", 2 << 20), ("arm64-64k", 512 << 20), ("ppc-8xx", 0)])
def test_the_size_of_a_huge_page_is_that_of_the_architecture(arch: str, size: int) -> None:
    assert ModelHugePages(Kernel(arch).spawn()).huge_page_size() == size
