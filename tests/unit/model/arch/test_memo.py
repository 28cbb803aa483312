"""The remembered function."""

import pytest

from pagewatch.model.arch.memo import Memo


def test_each_argument_is_computed_once():
    seen = []
    square = Memo(lambda n: seen.append(n) or n * n)
    assert [square[3], square[3], square[4]] == [9, 9, 16]
    assert seen == [3, 4]


def test_what_was_raised_is_not_remembered():
    inverse = Memo(lambda n: 1 // n)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            inverse[0]
    assert dict(inverse) == {}
