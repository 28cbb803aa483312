import pytest

from pagewatch.model import Kernel
from pagewatch.model.hugetlb.sizes import huge_page_bytes, slice_bytes
from pagewatch.vocab.errors import InvalidArgument
from support.formats import FORMATS


def test_an_impossible_size_says_which_sizes_there_are() -> None:
    process = Kernel("ppc-8xx").spawn()
    with pytest.raises(InvalidArgument, match=r"no huge pages of '2M'; it has 16K, 512K, 8M"):
        process.mmap(1 << 21, huge="2M")
    with pytest.raises(InvalidArgument, match="it has 64K, 2M, 32M, 1G"):
        Kernel("arm64").memfd(1 << 20, huge="1M")


@pytest.mark.parametrize("name", ["4K", "", "2", "2m", "-2M", "1T"])
def test_what_is_no_huge_page_size_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        huge_page_bytes(FORMATS["x86_64"], name)


def test_only_a_hugepd_of_several_slots_needs_slices() -> None:
    needs = {(name, size) for name, fmt in FORMATS.items() for size in fmt.shapes if slice_bytes(fmt, size) > size}
    assert needs == {("ppc64-hash-4k-hugepd", 16 << 20), ("ppc64-hash-4k-hugepd", 16 << 30)}


def test_small_pages_are_never_placed_in_a_slice_of_huge_ones() -> None:
    process = Kernel("ppc64-hash-4k-hugepd").spawn()
    small = process.mmap(4096)
    huge = process.mmap(16 << 20, huge="16M")
    after = process.mmap(4096)
    process.store(huge, b"h")
    for address in (small, after):
        process.store(address, b"s")
        assert address >> 28 != huge >> 28
    with pytest.raises(OSError, match=r"busy"):
        process.mmap(4096, at=huge + (32 << 20))
