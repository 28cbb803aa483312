"""How levels become a format."""

import pytest

from pagewatch.model.arch.arm64 import arm64_4k
from pagewatch.model.arch.levels import link
from support.formats import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_every_level_knows_the_one_below(name):
    levels = FORMATS[name].at
    for upper, lower in zip(levels[1:], levels, strict=False):
        assert upper.below(0) is lower


@pytest.mark.parametrize("name", FORMATS)
def test_levels_join_without_gap_or_overlap(name):
    levels = FORMATS[name].at
    for upper, lower in zip(levels[1:], levels, strict=False):
        assert upper.shift == lower.shift + lower.index_bits


def test_shapes_and_features_are_derived():
    fmt = link("two", arm64_4k().at[:2], "hw-young")
    assert list(fmt.shapes) == [4 << 10, 64 << 10, 2 << 20, 32 << 20]
    assert {"contiguous", "hw-young", "uffd-wp"} <= fmt.features
    assert not {"hw-dirty", "soft-dirty", "hugepd"} & fmt.features
