"""perf_event_open in numbers."""

import ctypes

from pagewatch.linux.abi import perf


def test_attributes_are_version_0_of_64_bytes():
    assert ctypes.sizeof(perf.perf_event_attr) == 64
    assert (perf.perf_event_attr.flags.offset, perf.perf_event_attr.config1.offset) == (40, 56)


def test_page_faults_are_a_software_event():
    assert (perf.PERF_TYPE_SOFTWARE, perf.PERF_COUNT_SW_PAGE_FAULTS, perf.PERF_FLAG_FD_CLOEXEC) == (1, 2, 8)
