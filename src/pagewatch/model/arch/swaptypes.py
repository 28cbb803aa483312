"""Swap types: what a non-present entry is, by the number in its type field (include/linux/swap.h).

Of the 32 types the top eight do not name a swap file. The numbers are those since Linux 6.16, when
device-exclusive entries lost their read and write variants.
"""

from pagewatch.model.arch.format import DEVICE, DEVICE_EXCLUSIVE, HWPOISON, MARKER, MIGRATION, SWAP

N_SWAP_TYPES = 32
"""``1 << MAX_SWAPFILES_SHIFT``."""
SWP_HWPOISON = 24
"""``MAX_SWAPFILES``, too: the first type that is no swap file."""
SWP_MIGRATION_READ = 25
SWP_MIGRATION_READ_EXCLUSIVE = 26
SWP_MIGRATION_WRITE = 27
SWP_DEVICE_WRITE = 28
SWP_DEVICE_READ = 29
SWP_DEVICE_EXCLUSIVE = 30
SWP_PTE_MARKER = 31

KIND_OF_TYPE: tuple[int, ...] = (
    *(SWAP,) * SWP_HWPOISON,
    HWPOISON,
    *(MIGRATION,) * 3,
    *(DEVICE,) * 2,
    DEVICE_EXCLUSIVE,
    MARKER,
)
"""The kind of entry for each swap type."""
