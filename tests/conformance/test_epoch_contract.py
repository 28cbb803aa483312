"""One contract, every world: the fake, this process, another process."""

import pytest

from pagewatch.testing.epoch_contract import EpochContract
from pagewatch.testing.layout_contract import LayoutContract
from support.fake_world import FakeWorld
from support.needs import requires
from support.own_world import own_world
from support.target_world import target_world


class TestFake(EpochContract, LayoutContract):
    @pytest.fixture
    def world(self):
        return FakeWorld()


@requires("uffd_wp_async", "pagemap_scan")
class TestOwnMemory(EpochContract):
    @pytest.fixture
    def world(self):
        with own_world() as world:
            yield world


@requires("uffd_wp_async", "pagemap_scan", "attach")
class TestAnotherProcess(EpochContract, LayoutContract):
    @pytest.fixture
    def world(self):
        with target_world() as world:
            yield world
