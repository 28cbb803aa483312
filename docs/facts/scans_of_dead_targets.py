"""The scan of a process that is gone fails, or succeeds and finds nothing: an empty result may mean either."""

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
try:
    found = fcntl.ioctl(fd, 0xC0606610, arg)
except ProcessLookupError:
    fact("a dead process is ESRCH, and walk_end is not touched", struct.unpack_from("Q", arg, 32)[0] == 0)
else:
    walk_end = struct.unpack_from("Q", arg, 32)[0]
    fact("a dead process has no regions, no error, and walk_end is the end", (found, walk_end) == (0, end))
fact("reading its pagemap gives nothing", os.pread(fd, 8, 0) == b"")
os.close(fd)
