"""The tracker of the live kernel, unchanged, on the model: the same contract."""

from collections.abc import Iterator

import pytest

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
