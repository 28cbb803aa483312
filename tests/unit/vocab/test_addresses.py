"""Rounding to pages, against arithmetic without bit tricks."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.vocab.addresses import PAGE_SIZE, is_page_aligned, page_ceil, page_floor

addresses = st.integers(0, (1 << 64) - 1)
page_sizes = st.sampled_from([4096, 16384, 65536, 2 << 20, 1 << 30])


def test_page_size_is_what_the_system_says():
    assert os.sysconf("SC_PAGE_SIZE") == PAGE_SIZE


@given(addresses, page_sizes)
def test_floor_is_the_last_multiple_not_above(address, page_size):
    assert page_floor(address, page_size) == address // page_size * page_size


@given(addresses, page_sizes)
def test_ceil_is_the_first_multiple_not_below(address, page_size):
    assert page_ceil(address, page_size) == (address + page_size - 1) // page_size * page_size


@given(addresses, page_sizes)
def test_aligned_means_no_remainder(address, page_size):
    assert is_page_aligned(address, page_size) == (address % page_size == 0)


@pytest.mark.parametrize(("address", "floor", "ceil"), [(0, 0, 0), (1, 0, 4096), (4095, 0, 4096), (4096, 4096, 4096)])
def test_rounding_at_the_borders_of_a_page(address, floor, ceil):
    assert (page_floor(address, 4096), page_ceil(address, 4096)) == (floor, ceil)
