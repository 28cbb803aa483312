"""Which of the model's behaviours this kernel has: each asked by its effect, never by version."""

import fcntl
import os
import struct
from typing import Any

from pagewatch.model import Quirks
from support.forked import forked_child
from support.versus.live import Live
from support.versus.outcomes import LARGE, SMALL, Arena, Observation, Result, Step

_FRESH, _ONCE, _THERE = 1 << 0, 1 << 1, 1 << 8
"""Bits 55, 56 and 63 of a pagemap word, shifted down: soft-dirty, mapped once, present."""
_WRITTEN, _PRESENT, _HUGE = 1 << 1, 1 << 3, 1 << 6
"""Categories."""
_READ_ONLY, _MOVED = 1, 3
"""For mprotect; for mremap: MREMAP_MAYMOVE | MREMAP_FIXED."""
_GUARDED = 102
"""MADV_GUARD_INSTALL."""
_ALL, _BEFORE_GUARD, _BEFORE_SOFT_DIRTY = 0x1FF, 0xFF, 0x7F


def probed(live: Live) -> tuple[Arena, Quirks]:
    """The small arena with the categories that this kernel has, and the kernel's quirks."""
    arena = next(arena for arena in map(_with, (_ALL, _BEFORE_GUARD, _BEFORE_SOFT_DIRTY)) if _scans(live, arena))

    def last(*steps: Step) -> tuple[Result, Observation]:
        return live.run(arena, steps)[-1]

    memory = ("mmap", 0, 0, 16, "anon", 3, 0)
    copied = ("mmap", 0, 0, 16, "memfd-private", 3, 0)
    watched = (("uffd", 0, 0, 1 << 15), ("register", 0, 0, 0, 16, 2))
    poisoned = last(memory, *watched, ("poison", 0, 0, 3, 1), ("load", 0, 3))[0]
    parted = ("mprotect", 0, 4, 1, _READ_ONLY)
    several = (parted, ("mremap", 0, 3, 3, 3, _MOVED, 9))
    # Areas cannot grow together: this is refused by every kernel.
    refused = last(memory, parted, ("mremap", 0, 3, 2, 3, _MOVED, 9))[1]
    tail = last(("mmap", 0, 0, 16, "disk", 3, 0), ("pwrite", 0, "disk", 13, 1), ("load", 0, 15))[1]
    in_files = last(copied, ("madvise", 0, 3, 1, _GUARDED))[0][0] == "ok"
    # Guards in one area, anonymous memory in the other: two roots keep them apart, a mark does not.
    roots = (("uffd", 0, 1, 1 << 15), ("register", 0, 1, 13, 3, 2), ("store", 0, 0, 6), ("madvise", 0, 14, 2, _GUARDED))
    return arena, Quirks(
        soft_dirty=bool(last(memory, ("store", 0, 0, 1))[1][1][0] & _FRESH),
        memory_failure=poisoned[2:3] == (4,),
        scan_of_dead_fails=_scan_of_dead_fails(),
        scan_holes_written=bool(last(memory, *watched)[1][0][0][2] & _WRITTEN),
        mremap_moves_several=last(memory, *several)[0][0] == "ok",
        mremap_checks_first=bool(_covered(arena, refused, 9)),
        fault_around_needs_table_for_tail=not tail[1][13] & _THERE,
        guards=last(memory, ("madvise", 0, 3, 1, _GUARDED))[0][0] == "ok",
        guards_in_files=in_files,
        guards_mark_areas=in_files and len(last(copied, *roots, ("close", 0, 1))[1][2]) == 1,
        guard_category=arena.categories == _ALL,
        **_of_huge_pages(live, LARGE._replace(categories=arena.categories)),
    )


def _of_huge_pages(live: Live, arena: Arena) -> dict[str, Any]:
    """Quirks that take room for huge pages to see."""

    def last(*steps: Step) -> tuple[Result, Observation]:
        return live.run(arena, steps)[-1]

    def categories(page: int, *steps: Step) -> int:
        at = arena.at(page)
        return next((bits for start, end, bits in last(*steps)[1][0] if start <= at < end), 0)

    plain = ("mmap", 0, 0, arena.n_pages, "anon", 3, 0)
    advised = (plain, ("madvise", 0, 0, arena.n_pages, 14))
    store, load = ("store", 0, 0, 1), ("load", 0, 0)
    enabled = "madvise" if categories(0, *advised, store) & _HUGE else "never"
    # A private page at 512 keeps the huge page of the file from being mapped as one.
    apart = (("store", 0, 512, 1), ("madvise", 0, 512, 512, 25), ("load", 0, 700))
    collapse = ("madvise", 0, 0, 512, 25)
    small = (plain, ("madvise", 0, 0, arena.n_pages, 15), store, *advised[1:])
    cut = (store, collapse, ("truncate", 0, "memfd", 256 << 12), store)
    huge_file = ("mmap", 0, 0, arena.n_pages, "memfd", 3, 0)
    # A child maps all of a huge page, its parent only two of the pages.
    shared = (("mmap", 0, 0, 512, "shared", 3, 0), store, collapse, ("fork", 0, 1), ("load", 1, 0))
    two = last(*shared, ("munmap", 0, 2, 510), load, ("load", 1, 0))[1]
    return {
        "thp_enabled": "always" if categories(0, plain, store) & _HUGE else enabled,
        "thp_zero_page": bool(categories(0, *advised, load) & _HUGE),
        "thp_replaces_zero_page": bool(categories(0, *advised, load, store) & _HUGE),
        "zap_frees_tables": not categories(0, plain, store, ("madvise", 0, 0, 512, 4)) & _WRITTEN,
        "collapse_needs_writable_page": (
            last(*small, ("mprotect", 0, 0, arena.n_pages, _READ_ONLY), collapse)[0][0] != "ok"
        ),
        "collapse_makes_upper_tables": last(huge_file, ("pwrite", 0, "memfd", 0, 1), collapse)[0][0] == "ok",
        "pagemap_judges_huge_by_first_page": not two[1][arena.places.index(511)] & _ONCE,
        "files_keep_halves": bool(categories(255, huge_file, *cut) & _PRESENT),
        "fault_around_maps_whole_folios": bool(
            categories(1000, ("mmap", 0, 0, arena.n_pages, "memfd-private", 3, 0), *apart) & _PRESENT
        ),
    }


def _covered(arena: Arena, seen: Observation, page: int) -> bool:
    """Whether an area holds the page."""
    return any(start <= arena.at(page) < end for start, end, _ in seen[2])


def _with(categories: int) -> Arena:
    return SMALL._replace(categories=categories)


def _scan_of_dead_fails() -> bool:
    with forked_child(os.getpid) as (child, _):
        fd = os.open(f"/proc/{child}/pagemap", os.O_RDONLY)
    try:
        fcntl.ioctl(fd, 0xC0606610, bytearray(struct.pack("12Q", 96, *[0] * 11)))
    except ProcessLookupError:
        return True
    finally:
        os.close(fd)
    return False


def _scans(live: Live, arena: Arena) -> bool:
    """Whether a scan that asks for all of the arena's categories is not refused."""
    masks = (0, 0, 0, arena.categories)
    scan = ("scan", 0, arena.base, arena.end, 0, masks, (0, 1, 1))
    (result, _) = live.run(arena, [scan])[0]
    return result[1][0] >= 0
