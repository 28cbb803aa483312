"""Reaching the pages behind user addresses without any lock (mm/gup.c, ``gup_fast``).

Some facts about the fast way
-----------------------------
* It runs with interrupts off. Tables are freed after a grace period of RCU, which such a section holds up,
  or after an interrupt to all CPUs, which it delays. So the tables it walks stay readable, though they may
  be out of use already.
* It takes the page first and looks again afterwards: whoever takes a page away clears the entry first and
  looks at the count afterwards. One of the two sees the other.
* The entry alone is not enough. A collapse leaves the entries of the old table for a while and clears the
  directory entry; so that is looked at again, too.
* Without the area it cannot tell private from shared: what it cannot decide it leaves to the slow way.

The kernel relies on two barriers here: after the count was raised, and after the entry was cleared. Both
are atomic operations, which the model's steps are, too.
"""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import INVALID, LEAF, PROTNONE, SPECIAL, USER, WRITE
from pagewatch.model.file import FileKind
from pagewatch.model.pins import Page, Want, must_unshare, release, try_grab
from pagewatch.model.walk import Spot, descend, frame_of
from pagewatch.steps import READ, access

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm
    from pagewatch.model.quirks import Quirks
    from pagewatch.model.tlb import Cpu


def gup_fast(mm: "Mm", cpu: "Cpu", start: int, n_pages: int, want: Want) -> list[Page]:
    """Grab as many pages from ``start`` on (bytes) as can be had without a lock."""
    page_bytes = mm.machine.page_bytes
    minds_forks = Want.PIN in want and not mm.machine.quirks.gup_fast_ignores_forks
    sequence = _write_protect_sequence(mm)
    if minds_forks and sequence & 1:
        return []
    pages: list[Page] = []
    with cpu.interrupts_off(), mm.machine.rcu:
        cpu.run(mm)  # who calls runs there, so flushes have to reach it
        for address in range(start, start + n_pages * page_bytes, page_bytes):
            page = _one(mm, address, want)
            if page is None:
                break
            pages.append(page)
    # A fork that ran meanwhile may have found a page unpinned and shared it.
    if minds_forks and _write_protect_sequence(mm) != sequence:
        for folio, _ in pages:
            release(mm.machine.memory, folio, want)
        return []
    return pages


def _write_protect_sequence(mm: "Mm") -> int:
    access(("fork", mm.id), READ, "gup fast: fork running?")
    return mm.write_protect_seq


def _one(mm: "Mm", address: int, want: Want) -> Page | None:
    """``gup_fast_pte_range`` and its kin at the other levels; None leaves the page to the slow way."""
    spot = descend(mm, address, "gup fast: walk")
    if spot.kind != LEAF or not _permitted(spot, want):
        return None
    memory = mm.machine.memory
    pfn = frame_of(spot.fmt, spot.entry, address)
    folio = try_grab(memory, pfn, want)
    if folio is None:
        return None
    page = pfn - folio.pfn
    if not _unchanged(mm.machine.quirks, spot) or not _allowed(folio, want) or _shared(mm, spot, folio, page, want):
        release(memory, folio, want)
        return None
    return Page(folio, page)


def _permitted(spot: Spot, want: Want) -> bool:
    """Whether user mode could do it (``pte_access_permitted``); raw frames have no page to take."""
    flags = spot.fmt.flags(spot.entry)
    if flags & (PROTNONE | INVALID | SPECIAL) or (spot.fmt.supported & USER and not flags & USER):
        return False
    return Want.WRITE not in want or bool(flags & WRITE)


def _unchanged(quirks: "Quirks", spot: Spot) -> bool:
    """Whether the entry, and the directory entry that led to it, are still what they were."""
    parent = spot.parent
    if (
        not quirks.gup_fast_skips_pmd_recheck
        and parent is not None
        and parent.table.read(parent.slot, "gup fast: recheck directory") != parent.entry
    ):
        return False
    return quirks.gup_fast_skips_pte_recheck or (spot.table.read(spot.slot, "gup fast: recheck entry") == spot.entry)


def _allowed(folio: "Folio", want: Want) -> bool:
    """Secret memory never; long-term writers only where no file system wants to know of each store.

    ``gup_fast_folio_allowed``.
    """
    if folio.anon:
        return True
    kind = None if folio.mapping is None else folio.mapping.kind
    if kind is None or kind is FileKind.SECRET:
        return False
    if Want.LONGTERM not in want or Want.PIN not in want:
        return True
    return kind is not FileKind.DAX and (Want.WRITE not in want or kind in (FileKind.SHMEM, FileKind.HUGETLB))


def _shared(mm: "Mm", spot: Spot, folio: "Folio", page: int, want: Want) -> bool:
    """Whether a read pin must be preceded by an unshare, which only the slow way can do."""
    if spot.fmt.flags(spot.entry) & WRITE:
        return False
    quirks = mm.machine.quirks
    if quirks.gup_unshares == "never" or (quirks.gup_hugepd_skips_unshare and _in_hugepd(spot)):
        return False
    return must_unshare(folio, page, want, None)


def _in_hugepd(spot: Spot) -> bool:
    """Whether a special directory entry led to the leaf."""
    parent = spot.parent
    return parent is not None and any(below is spot.fmt for below in parent.fmt.directories.values())
