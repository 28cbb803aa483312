"""PAGEMAP_SCAN and PROCMAP_QUERY (include/uapi/linux/fs.h), and the words of /proc/PID/pagemap."""

import ctypes

from pagewatch.linux.abi.ioctl import IOWR

u64 = ctypes.c_uint64
u32 = ctypes.c_uint32

PM_SCAN_WP_MATCHING = 1 << 0
PM_SCAN_CHECK_WPASYNC = 1 << 1


class page_region(ctypes.Structure):
    """One run of pages in the output vector."""

    _fields_ = [("start", u64), ("end", u64), ("categories", u64)]


class pm_scan_arg(ctypes.Structure):
    """The argument, 96 bytes on every machine, 32-bit callers included."""

    _fields_ = [
        ("size", u64),
        ("flags", u64),
        ("start", u64),
        ("end", u64),
        ("walk_end", u64),
        ("vec", u64),
        ("vec_len", u64),
        ("max_pages", u64),
        ("category_inverted", u64),
        ("category_mask", u64),
        ("category_anyof_mask", u64),
        ("return_mask", u64),
    ]


PAGEMAP_SCAN = IOWR("PAGEMAP_SCAN", ord("f"), 16, pm_scan_arg)

PROCMAP_QUERY_COVERING_OR_NEXT_VMA = 0x10


class procmap_query(ctypes.Structure):
    """One mapping of /proc/PID/maps in binary form (since Linux 6.11)."""

    _fields_ = [
        ("size", u64),
        ("query_flags", u64),
        ("query_addr", u64),
        ("vma_start", u64),
        ("vma_end", u64),
        ("vma_flags", u64),
        ("vma_page_size", u64),
        ("vma_offset", u64),
        ("inode", u64),
        ("dev_major", u32),
        ("dev_minor", u32),
        ("vma_name_size", u32),
        ("build_id_size", u32),
        ("vma_name_addr", u64),
        ("build_id_addr", u64),
    ]


PROCMAP_QUERY = IOWR("PROCMAP_QUERY", ord("f"), 17, procmap_query)

# Bits of a 64-bit word of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
PM_SOFT_DIRTY = 1 << 55
PM_MMAP_EXCLUSIVE = 1 << 56
PM_UFFD_WP = 1 << 57
PM_GUARD_REGION = 1 << 58
PM_FILE = 1 << 61
PM_SWAP = 1 << 62
PM_PRESENT = 1 << 63
