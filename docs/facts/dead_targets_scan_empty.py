"""The scan of a process that is gone succeeds and finds nothing."""

import ctypes
import fcntl
import os
import struct
import subprocess
import sys

from raw import fact

target = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
fd = os.open(f"/proc/{target.pid}/pagemap", os.O_RDONLY)
target.communicate(b"\n")
vector = (ctypes.c_uint64 * 300)()
end = 1 << 46
arg = bytearray(struct.pack("12Q", 96, 0, 0, end, 0, ctypes.addressof(vector), 100, 0, 0, 0, 0, 0))
found = fcntl.ioctl(fd, 0xC0606610, arg)
fact(
    "a dead process has no regions, no error, and walk_end is the end",
    (found, struct.unpack_from("Q", arg, 32)[0]) == (0, end),
)
os.close(fd)
