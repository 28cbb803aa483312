"""PAGEMAP_SCAN and PROCMAP_QUERY in numbers, copied by hand from include/uapi/linux/fs.h."""

import ctypes

from pagewatch.linux.abi import pagemap
from pagewatch.vocab.regions import REGION


def offsets(structure):
    return {name: getattr(structure, name).offset for name, *_ in structure._fields_}


def test_scan_argument_has_96_bytes():
    assert ctypes.sizeof(pagemap.pm_scan_arg) == 96
    assert offsets(pagemap.pm_scan_arg) == {
        "size": 0,
        "flags": 8,
        "start": 16,
        "end": 24,
        "walk_end": 32,
        "vec": 40,
        "vec_len": 48,
        "max_pages": 56,
        "category_inverted": 64,
        "category_mask": 72,
        "category_anyof_mask": 80,
        "return_mask": 88,
    }


def test_scan_request_and_flags():
    assert pagemap.PAGEMAP_SCAN.number == 0xC0606610
    assert (pagemap.PM_SCAN_WP_MATCHING, pagemap.PM_SCAN_CHECK_WPASYNC) == (1, 2)


def test_the_kernels_regions_are_our_arrays():
    assert ctypes.sizeof(pagemap.page_region) == REGION.itemsize == 24
    assert offsets(pagemap.page_region) == {name: REGION.fields[name][1] for name in REGION.names}
    assert offsets(pagemap.page_region) == {"start": 0, "end": 8, "categories": 16}


def test_mapping_query_has_104_bytes():
    assert ctypes.sizeof(pagemap.procmap_query) == 104
    assert pagemap.PROCMAP_QUERY.number == 0xC0686611
    assert offsets(pagemap.procmap_query)["vma_page_size"] == 48
    assert offsets(pagemap.procmap_query)["build_id_addr"] == 96
    assert pagemap.PROCMAP_QUERY_COVERING_OR_NEXT_VMA == 16


def test_bits_of_a_pagemap_word():
    bits = {name: value for name, value in vars(pagemap).items() if name.startswith("PM_") and "SCAN" not in name}
    assert bits == {
        "PM_SOFT_DIRTY": 0x0080_0000_0000_0000,
        "PM_MMAP_EXCLUSIVE": 0x0100_0000_0000_0000,
        "PM_UFFD_WP": 0x0200_0000_0000_0000,
        "PM_GUARD_REGION": 0x0400_0000_0000_0000,
        "PM_FILE": 0x2000_0000_0000_0000,
        "PM_SWAP": 0x4000_0000_0000_0000,
        "PM_PRESENT": 0x8000_0000_0000_0000,
    }
