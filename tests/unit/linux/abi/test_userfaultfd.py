"""userfaultfd in numbers, copied by hand from include/uapi/linux/userfaultfd.h."""

import ctypes

from pagewatch.linux.abi import userfaultfd as abi


def test_request_numbers():
    assert abi.UFFD_API == 0xAA
    assert {request.name: request.number for request in vars(abi).values() if hasattr(request, "number")} == {
        "UFFDIO_API": 0xC018AA3F,
        "UFFDIO_REGISTER": 0xC020AA00,
        "UFFDIO_UNREGISTER": 0x8010AA01,
        "UFFDIO_WRITEPROTECT": 0xC018AA06,
        "USERFAULTFD_IOC_NEW": 0x0000AA00,
    }


def test_structure_sizes():
    sizes = {
        abi.uffdio_api: 24,
        abi.uffdio_range: 16,
        abi.uffdio_register: 32,
        abi.uffdio_writeprotect: 24,
    }
    assert {structure: ctypes.sizeof(structure) for structure in sizes} == sizes


def test_modes_and_flags():
    assert (abi.UFFDIO_REGISTER_MODE_WP, abi.UFFDIO_WRITEPROTECT_MODE_WP, abi.UFFD_USER_MODE_ONLY) == (2, 1, 1)


def test_features_are_the_kernels_bits():
    assert {feature.name: int(feature) for feature in abi.Feature} == {
        "PAGEFAULT_FLAG_WP": 0x1,
        "EVENT_FORK": 0x2,
        "EVENT_REMAP": 0x4,
        "EVENT_REMOVE": 0x8,
        "MISSING_HUGETLBFS": 0x10,
        "MISSING_SHMEM": 0x20,
        "EVENT_UNMAP": 0x40,
        "SIGBUS": 0x80,
        "THREAD_ID": 0x100,
        "MINOR_HUGETLBFS": 0x200,
        "MINOR_SHMEM": 0x400,
        "EXACT_ADDRESS": 0x800,
        "WP_HUGETLBFS_SHMEM": 0x1000,
        "WP_UNPOPULATED": 0x2000,
        "POISON": 0x4000,
        "WP_ASYNC": 0x8000,
        "MOVE": 0x10000,
    }
