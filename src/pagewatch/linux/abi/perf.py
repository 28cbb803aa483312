"""perf_event_open(2): as much of struct perf_event_attr (include/uapi/linux/perf_event.h) as counting takes."""

import ctypes

_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64

PERF_TYPE_SOFTWARE = 1
PERF_COUNT_SW_PAGE_FAULTS = 2
PERF_FLAG_FD_CLOEXEC = 1 << 3

# Bits of perf_event_attr.flags.
EXCLUDE_KERNEL = 1 << 5
EXCLUDE_HV = 1 << 6


class perf_event_attr(ctypes.Structure):
    """Version 0, 64 bytes, which every kernel takes."""

    _fields_ = [
        ("type", _u32),
        ("size", _u32),
        ("config", _u64),
        ("sample_period", _u64),
        ("sample_type", _u64),
        ("read_format", _u64),
        ("flags", _u64),
        ("wakeup_events", _u32),
        ("bp_type", _u32),
        ("config1", _u64),
    ]
