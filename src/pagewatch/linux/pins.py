"""Memory that is pinned for direct access: writes to it bypass the page tables, and so every tracker.

io_uring names its registered buffers in the fdinfo of its descriptor. For other pins (RDMA, VFIO) the kernel tells
only how many kilobytes there are (``VmPin`` of /proc/PID/status), not where.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from pagewatch.linux.proc import read_field
from pagewatch.vocab.addresses import page_ceil, page_floor
from pagewatch.vocab.blindspots import BlindReason, BlindSpot

_BUFFER = re.compile(r"^ *\d+: 0x([0-9a-f]+)/(\d+)$", re.MULTILINE)
_EVERYWHERE = 1 << 56


def pinned_spots(pid: int) -> tuple[BlindSpot, ...]:
    """What is known to be pinned now in a process; empty where its descriptors may not be read."""
    spots = [
        BlindSpot(page_floor(start), page_ceil(start + length), BlindReason.PINNED, "io_uring registered buffer")
        for fdinfo in _io_uring_fdinfos(pid)
        for start, length in parse_buffers(fdinfo)
    ]
    unplaced = _pinned_bytes(pid) - sum(spot.end - spot.start for spot in spots)
    if unplaced > 0:
        detail = f"{unplaced} bytes are pinned at addresses that the kernel does not tell"
        spots.append(BlindSpot(0, _EVERYWHERE, BlindReason.PINNED, detail))
    return tuple(spots)


def parse_buffers(fdinfo: str) -> list[tuple[int, int]]:
    """(address, bytes) of the registered buffers in the fdinfo text of an io_uring descriptor."""
    _, header, rest = fdinfo.partition("UserBufs:")
    if not header:
        return []
    lines = rest.split("\n")[1:]
    found = []
    for line in lines:
        match = _BUFFER.match(line)
        if not match:
            break
        if int(match[2]):
            found.append((int(match[1], 16), int(match[2])))
    return found


def _io_uring_fdinfos(pid: int) -> Iterator[str]:
    try:
        links = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for link in links:
        # A descriptor may be closed between listing and reading.
        with contextlib.suppress(OSError):
            if str(link.readlink()) == "anon_inode:[io_uring]":
                yield Path(f"/proc/{pid}/fdinfo/{link.name}").read_text()


def _pinned_bytes(pid: int) -> int:
    try:
        amount = read_field(f"/proc/{pid}/status", "VmPin")
    except OSError:
        return 0
    return int(amount.split()[0]) * 1024 if amount else 0
