"""Blind spots say where, why, and in words."""

import dataclasses

import pytest

from pagewatch.vocab.blindspots import BlindReason, BlindSpot


@pytest.mark.parametrize("reason", BlindReason)
def test_a_spot_prints_its_range_and_reason(reason):
    assert str(BlindSpot(0x1000, 0x3000, reason)) == f"0x1000-0x3000: {reason.value}"


def test_details_follow_in_parentheses():
    text = str(BlindSpot(0, 4096, BlindReason.REFUSED, "/dev/fb0"))
    assert text == "0x0-0x1000: the kernel refuses to write-protect this mapping (/dev/fb0)"


def test_reasons_differ_in_words():
    assert len({reason.value for reason in BlindReason}) == len(BlindReason.__members__)


def test_a_spot_is_a_value():
    spot = BlindSpot(0, 4096, BlindReason.PINNED)
    assert {spot, dataclasses.replace(spot)} == {spot}
    with pytest.raises(dataclasses.FrozenInstanceError):
        spot.end = 1
