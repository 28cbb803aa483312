"""What MADV_COLLAPSE makes of each way to end."""

import errno

import pytest

from pagewatch.model.collapse.result import Result


@pytest.mark.parametrize(
    ("result", "number", "goes_on"),
    [
        (Result.EXCEED_NONE_PTE, errno.EBUSY, False),
        (Result.PAGE_COUNT, errno.EAGAIN, True),
        (Result.PAGE_LOCK, errno.EAGAIN, True),
        (Result.PAGE_FILLED, errno.EAGAIN, False),
        (Result.PTE_UFFD_WP, errno.EINVAL, True),
        (Result.PAGE_RO, errno.EINVAL, True),
        (Result.PTE_NON_PRESENT, errno.EINVAL, True),
        (Result.NO_TABLE, errno.EINVAL, False),
        (Result.VMA_CHECK, errno.EINVAL, False),
    ],
)
def test_errno_and_whether_the_next_range_is_tried(result: Result, number: int, *, goes_on: bool) -> None:
    assert (result.errno, result.goes_on, result.done) == (number, goes_on, False)


@pytest.mark.parametrize("result", [Result.SUCCEED, Result.PMD_MAPPED])
def test_what_is_huge_is_done(result: Result) -> None:
    assert result.done
    assert result.goes_on
