"""Addresses and pages: which number is which, and how to round."""

import mmap
from typing import NewType

Addr = NewType("Addr", int)
"""A virtual address, in bytes."""

Vpn = NewType("Vpn", int)
"""A virtual page number: ``Addr >> page shift``."""

PAGE_SIZE: int = mmap.PAGESIZE
"""Bytes of the smallest page of the machine this runs on (4096 on x86-64; 4, 16 or 64 KiB on arm64)."""


def page_floor(address: int, page_size: int = PAGE_SIZE) -> int:
    """The page boundary at or below ``address`` (bytes)."""
    return address & -page_size


def page_ceil(address: int, page_size: int = PAGE_SIZE) -> int:
    """The page boundary at or above ``address`` (bytes)."""
    return -(-address & -page_size)


def is_page_aligned(address: int, page_size: int = PAGE_SIZE) -> bool:
    """Whether ``address`` (bytes) is a multiple of ``page_size``."""
    return address & (page_size - 1) == 0
