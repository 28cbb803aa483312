"""ioctls on pidfds (include/uapi/linux/pidfd.h)."""

import ctypes

from pagewatch.linux.abi.ioctl import IOWR

_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64

PIDFD_INFO_EXIT = 1 << 3


class pidfd_info(ctypes.Structure):
    """PIDFD_INFO_SIZE_VER0 of it, which has all that is used here."""

    _fields_ = [
        ("mask", _u64),
        ("cgroupid", _u64),
        ("pid", _u32),
        ("tgid", _u32),
        ("ppid", _u32),
        ("ruid", _u32),
        ("rgid", _u32),
        ("euid", _u32),
        ("egid", _u32),
        ("suid", _u32),
        ("sgid", _u32),
        ("fsuid", _u32),
        ("fsgid", _u32),
        ("exit_code", ctypes.c_int32),
    ]


PIDFD_GET_INFO = IOWR("PIDFD_GET_INFO", 0xFF, 11, pidfd_info)
