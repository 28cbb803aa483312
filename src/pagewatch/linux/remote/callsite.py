"""Finding a system call instruction that a process already maps, so that none need be written into it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pagewatch.linux.remote.inject.base import Architecture

_CHUNK_BYTES = 1 << 16


def find_call_site(pid: int, tid: int, arch: Architecture) -> int | None:
    """The address of a system call instruction in the memory of a process; None if it has none.

    Any place with these bytes will do, on a boundary between instructions or not: the thread jumps right there.
    """
    directory = Path(f"/proc/{pid}/task/{tid}")
    memory = os.open(directory / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, end in executable_ranges((directory / "maps").read_bytes().decode("utf-8", "backslashreplace")):
            address = search(lambda at, n_bytes: os.pread(memory, n_bytes, at), start, end, arch)
            if address is not None:
                return address
    finally:
        os.close(memory)
    return None


def executable_ranges(maps: str) -> Iterator[tuple[int, int]]:
    """Ranges [start, end) of /proc/PID/maps that can be read and run: the kernel's own vdso first."""
    vdso: list[tuple[int, int]] = []
    others: list[tuple[int, int]] = []
    # Not splitlines(): a file's name may hold other line separators.
    for line in filter(None, maps.split("\n")):
        span, permissions, *rest = line.split(maxsplit=5)
        if permissions[0] != "r" or permissions[2] != "x":
            continue
        start, _, end = span.partition("-")
        (vdso if rest[3:] == ["[vdso]"] else others).append((int(start, 16), int(end, 16)))
    yield from vdso
    yield from others


def search(read: Callable[[int, int], bytes], start: int, end: int, arch: Architecture) -> int | None:
    """The first system call instruction in [start, end), aligned as the machine wants it; None without one.

    :param read: gives up to that many bytes at an address, fewer or an OSError where memory ends.
    """
    wanted = arch.instruction
    for at in range(start, end, _CHUNK_BYTES):
        try:
            # An instruction may straddle two chunks.
            chunk = read(at, min(_CHUNK_BYTES + len(wanted) - 1, end - at))
        except OSError:
            return None
        offset = chunk.find(wanted)
        while offset >= 0 and (at + offset) % arch.alignment:
            offset = chunk.find(wanted, offset + 1)
        if offset >= 0:
            return at + offset
    return None
