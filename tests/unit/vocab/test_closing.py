"""``Closing``: the end of a block closes."""

import pytest

from pagewatch.vocab.closing import Closing


class Door(Closing):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_leaving_the_block_closes():
    with Door() as door:
        assert door.closed == 0
    assert door.closed == 1


def test_an_exception_closes_and_goes_on():
    door = Door()
    with pytest.raises(KeyError), door:
        raise KeyError
    assert door.closed == 1


def test_what_cannot_be_closed_cannot_be_made():
    with pytest.raises(TypeError, match="close"):
        type("Hole", (Closing,), {})()
