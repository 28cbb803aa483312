"""Runs a program without any capability: the same user, but none of root's rights.

``python capless.py PROGRAM ARGUMENTS``: what an unprivileged user sees, without the need for one who can read
this directory.
"""

import ctypes
import os
import sys
from pathlib import Path

_PR_CAPBSET_DROP = 24


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    # With an empty bounding set, exec gives not even root a capability.
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606


if __name__ == "__main__":
    main()
