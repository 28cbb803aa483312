"""The result of a scan is a value."""

import dataclasses

import pytest

from pagewatch.vocab.regions import Regions
from pagewatch.vocab.scan import Scan


def test_equal_results_are_equal():
    one = Scan(Regions([(0, 4096)]), 8192, complete=False)
    assert one == Scan(Regions([(0, 4096)]), 8192, complete=False)
    assert one != dataclasses.replace(one, walk_end=4096)


def test_a_result_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Scan(Regions(), 0, complete=True).walk_end = 4096
