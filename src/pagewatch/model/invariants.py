"""What must hold whenever nothing is in progress; each check names what it found.

The oracle counts from scratch: it walks every table and TLB and compares with the counts that the
operations kept.
"""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import (
    DEVICE,
    DIRTY,
    LEAF,
    MARKER_GUARD,
    MARKER_POISON,
    MARKER_UFFD_WP,
    MIGRATION,
    NONE,
    SWAP,
    TABLE,
    UFFD_WP,
    WRITE,
    YOUNG,
)
from pagewatch.model.errors import KernelBug
from pagewatch.model.memory import PIN_BIAS
from pagewatch.model.pages import folio_at
from pagewatch.model.tables import Table
from pagewatch.model.vma import VM_SHARED
from pagewatch.model.walk import Spot, frame_of

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def check(machine: "Machine") -> None:
    """Check everything about a machine at rest.

    :raises KernelBug: something does not hold.
    """
    problems = list(broken_invariants(machine))
    if problems:
        raise KernelBug("; ".join(problems))


def broken_invariants(machine: "Machine") -> Iterator[str]:
    """What does not hold, in words."""
    mapped: Counter[int] = Counter()
    swapped: Counter[int] = Counter()
    users: Counter[Table] = Counter()
    counted: set[tuple[int, int]] = set()
    for mm in machine.mms:
        if mm.dead:
            continue
        users.update(_reachable(machine, mm.root))
        yield from _areas(mm)
        yield from _locks(mm)
        for address, spot in entries(mm):
            # One leaf may be several entries of a block, and one table may serve several address spaces.
            again = _continues_block(mm, address, spot) or (spot.table.address, spot.slot) in counted
            counted.add((spot.table.address, spot.slot))
            yield from _entry(mm, address, spot, Counter() if again else mapped, swapped)
    yield from _folios(machine, mapped)
    yield from _swap(machine, swapped)
    yield from _translations(machine)
    if len(users) != len(machine.tables):
        yield f"{len(machine.tables)} page tables exist, {len(users)} can be reached"
    for table, n_users in users.items():
        if table.sharers != n_users:
            yield f"{table!r} counts {table.sharers} address spaces, {n_users} use it"


def entries(mm: "Mm") -> Iterator[tuple[int, Spot]]:
    """Every entry that is no table, with its address, straight from the tables."""
    yield from _entries_below(mm.machine, mm.root, 0, None)


def _entries_below(machine: "Machine", table: Table, base: int, parent: Spot | None) -> Iterator[tuple[int, Spot]]:
    fmt = table.fmt
    last = 0
    for index, entry in sorted(table.entries.items()):
        address = base + (index << fmt.shift)
        spot = Spot(table, index, entry, parent)
        repeated, last = entry == last, entry  # directory entries that share a hugepd
        if fmt.kind(entry) == TABLE:
            if repeated:
                continue
            yield from _entries_below(machine, machine.tables.below(table, entry), address, spot)
        elif fmt.kind(entry) != NONE:
            yield address, spot


def _reachable(machine: "Machine", table: Table) -> set[Table]:
    """The tables of one address space, each once."""
    found = {table}
    for entry in table.entries.values():
        if table.fmt.kind(entry) == TABLE:
            found |= _reachable(machine, machine.tables.below(table, entry))
    return found


def _continues_block(mm: "Mm", address: int, spot: Spot) -> bool:
    """Whether the entry belongs to a leaf that an earlier entry begins; entries that were folded count one by one."""
    vma = mm.vmas.at(address)
    huge = vma is None or vma.hugetlb
    return huge and spot.kind == LEAF and address & spot.fmt.leaf_bytes(spot.entry) - 1 != 0


def _areas(mm: "Mm") -> Iterator[str]:
    last = 0
    for vma in mm.vmas:
        if not last <= vma.start < vma.end <= mm.top:
            yield f"{vma} overlaps its neighbour, is empty, or leaves user space"
        if vma.start & vma.page_bytes - 1 or vma.end & vma.page_bytes - 1:
            yield f"{vma} is not aligned to its pages"
        if vma.file is not None and (mm, vma) not in vma.file.areas:
            yield f"{vma} is not listed with its file"
        if vma.uffd_wp and vma.uffd is None:
            yield f"{vma} is watched by nobody"
        last = vma.end


def _locks(mm: "Mm") -> Iterator[str]:
    if not mm.mmap_lock.is_free():
        yield f"the mmap lock of {mm} is held"
    for vma in mm.vmas:
        if not vma.lock.is_free():
            yield f"the lock of {vma} is held"
        if vma.huge_lock is not None and not vma.huge_lock.is_free():
            yield f"the hugetlb lock of {vma} is held"
        if vma.file is not None and not vma.file.i_mmap_lock.is_free():
            yield f"the i_mmap lock of {vma.file!r} is held"
    if mm.pending_flushes:
        yield f"{mm} has {mm.pending_flushes} flushes pending"


def _entry(mm: "Mm", address: int, spot: Spot, mapped: Counter[int], swapped: Counter[int]) -> Iterator[str]:
    fmt, entry, kind = spot.fmt, spot.entry, spot.kind
    vma = mm.vmas.at(address)
    where = f"the {fmt.name} entry of {address:#x}"
    if vma is None:
        yield f"{where} lies in no area"
        return
    flags, payload = fmt.flags(entry), fmt.marker(entry)
    # Scans protect poison and guards, too, and nothing takes that back.
    protected = (flags & UFFD_WP or payload & MARKER_UFFD_WP) and not payload & (MARKER_GUARD | MARKER_POISON)
    if protected and not vma.uffd_wp:
        yield f"{where} is protected, but nobody watches its area"
    if kind == SWAP:
        swapped[fmt.swap(entry)[1]] += 1
    elif kind == MIGRATION:
        yield f"{where} says that its page moves, but nothing does"
    elif kind == DEVICE:
        mapped[mm.machine.memory.folio(fmt.pfn(entry)).pfn] += 1
    elif kind == LEAF:
        yield from _leaf(mm, vma, where, address, spot, mapped)
        yield from _block(vma, where, spot)


def _leaf(mm: "Mm", vma: "Vma", where: str, address: int, spot: Spot, mapped: Counter[int]) -> Iterator[str]:
    flags = spot.fmt.flags(spot.entry)
    if flags & UFFD_WP and flags & WRITE:
        yield f"{where} is protected and writable"
    folio = folio_at(mm.machine, spot.fmt, spot.entry)
    if folio is None:
        if flags & WRITE:
            yield f"{where} makes the zero page writable"
        return
    mapped[folio.pfn] += 1
    if flags & WRITE and not vma.flags & VM_SHARED:
        page = frame_of(spot.fmt, spot.entry, address) - folio.pfn
        if not folio.anon or (0 if folio.hugetlb else page) not in folio.raw_exclusive:
            yield f"{where} makes a page writable that is not exclusive: {folio!r}"


def _block(vma: "Vma", where: str, spot: Spot) -> Iterator[str]:
    """The entries of one leaf are alike, but for accessed and dirty, and a huge page has its area's size."""
    fmt, entry = spot.fmt, spot.entry
    n_bytes = fmt.leaf_bytes(entry)
    if vma.hugetlb and n_bytes != vma.page_bytes:
        yield f"{where} maps {n_bytes} bytes in an area of pages of {vma.page_bytes}"
    first = spot.slot & -(max(n_bytes >> fmt.shift, 1))
    head = spot.table.entries.get(first, 0)
    if fmt.pfn(head) != fmt.pfn(entry) or (fmt.flags(head) ^ fmt.flags(entry)) & ~(YOUNG | DIRTY):
        yield f"{where} is not like the first entry of its block"


def _folios(machine: "Machine", mapped: Counter[int]) -> Iterator[str]:
    for pfn, folio in machine.memory.folios.items():
        if machine.memory.is_zero(folio):
            continue
        if folio.raw_mapcount != mapped[pfn]:
            yield f"{folio!r} says it is mapped {folio.raw_mapcount} times, {mapped[pfn]} leaves map it"
        # Failed memory is never given back.
        held = mapped[pfn] + (folio.mapping is not None) + folio.raw_poisoned
        held += folio.pincount * (1 if folio.order else PIN_BIAS)
        held += folio.swap_slot is not None and machine.swap.cache.get(folio.swap_slot[1]) is folio
        if folio.raw_references != held:
            yield f"{folio!r} has {folio.raw_references} references, {held} are accounted for"


def _swap(machine: "Machine", swapped: Counter[int]) -> Iterator[str]:
    for file in machine.files:
        swapped.update(file.swapped.values())
    for offset, count in machine.swap.counts.items():
        if count != swapped[offset]:
            yield f"swap slot {offset} counts {count} users, it has {swapped[offset]}"


def _translations(machine: "Machine") -> Iterator[str]:
    """At rest no TLB allows more than the page tables do."""
    by_id = {mm.id: mm for mm in machine.mms if not mm.dead}
    for cpu in machine.cpus:
        for (mm_id, vpn), cached in cpu.tlb.items():
            if mm_id not in by_id:
                continue
            table, address = cached.table, vpn << machine.page_shift
            entry = table.entries.get(cached.index, 0)
            where = f"cpu{cpu.number} caches {address:#x}"
            if table.freed or table.fmt.kind(entry) != LEAF or frame_of(table.fmt, entry, address) != cached.pfn:
                yield f"{where}, which is mapped otherwise"
            elif cached.writable and not table.fmt.flags(entry) & WRITE:
                yield f"{where} as writable, which it is not"
            elif cached.dirty and not table.fmt.flags(entry) & DIRTY:
                yield f"{where} as dirty, which it is not"
