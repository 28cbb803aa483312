"""Memory pinned by io_uring, found and named."""

import os

import pytest

from pagewatch.linux.adapters import LiveLayout
from pagewatch.linux.maps import MapsReader
from pagewatch.linux.pins import pinned_spots
from pagewatch.vocab.blindspots import BlindReason
from support import raw
from support.area import area
from support.uring import pinned

P = raw.PAGE


@pytest.fixture
def memory():
    with area(16) as memory:
        memory.store(range(16))
        try:
            with pinned((memory.start, P)):
                pass
        except OSError as error:
            pytest.skip(f"io_uring cannot be used here: {error}")
        yield memory


def test_nothing_pinned_is_no_blind_spot(memory):
    assert pinned_spots(os.getpid()) == ()


def test_registered_buffers_are_named_to_the_page(memory):
    with pinned((memory.at(2), 2 * P), (memory.at(8) + 100, P)):
        spots = pinned_spots(os.getpid())
        assert [(memory.index(spot.start), memory.index(spot.end)) for spot in spots] == [(2, 4), (8, 10)]
        assert {spot.reason for spot in spots} == {BlindReason.PINNED}


def test_unregistered_buffers_are_no_blind_spot_any_more(memory):
    with pinned((memory.at(2), P)):
        assert len(pinned_spots(os.getpid())) == 1
    assert pinned_spots(os.getpid()) == ()


def test_the_layout_notices_what_is_pinned_and_released_later(memory):
    with MapsReader() as maps:
        layout = LiveLayout(maps)
        before = layout.pins()
        assert len(before) == 0
        assert layout.pins() is before
        with pinned((memory.at(3), P)):
            during = layout.pins()
            assert [(spot.start, spot.end) for spot in during] == [(memory.at(3), memory.at(4))]
            assert layout.pins() is during
        assert len(layout.pins()) == 0


def test_the_layout_notices_a_buffer_that_took_the_place_of_another_of_its_size(memory):
    with MapsReader() as maps:
        layout = LiveLayout(maps)
        for page in (3, 7):
            with pinned((memory.at(page), P)):
                assert [spot.start for spot in layout.pins()] == [memory.at(page)]


def test_a_process_that_is_gone_has_nothing_pinned():
    assert pinned_spots(4194305) == ()
