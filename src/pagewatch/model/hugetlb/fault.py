"""Faults on hugetlb memory (``hugetlb_fault``).

Two locks are held over all of it: the fault mutex, so that one thread makes a page of a file, and the vma
lock, so that the page table stays. The decision is made under them; a userfaultfd is told after them.
"""

from pagewatch.model.arch.format import (
    HWPOISON,
    LEAF,
    MARKER,
    MARKER_POISON,
    MARKER_UFFD_WP,
    MIGRATION,
    NONE,
    UFFD_WP,
    WRITE,
)
from pagewatch.model.fault.notify import notify
from pagewatch.model.fault.state import Access, Fault, Outcome, has_root, leaf_flags
from pagewatch.model.file import FileMapping
from pagewatch.model.folioflags import is_poisoned, set_exclusive
from pagewatch.model.hugetlb.entries import HugePage, find
from pagewatch.model.hugetlb.locks import fault_mutex, owned_file, reading
from pagewatch.model.hugetlb.tables import make
from pagewatch.model.memory import Folio
from pagewatch.model.notifier import Event, invalidating
from pagewatch.model.pages import keep_dirty, map_again, map_anon, unmap
from pagewatch.model.rmap import prepare_anon_vma
from pagewatch.model.tlb import flush_range
from pagewatch.model.uffd.context import Reason
from pagewatch.model.vma import VM_SHARED, VM_UFFD_MINOR, VM_UFFD_MISSING, VM_WRITE, Vma
from pagewatch.steps import WAIT, wait

Answer = Outcome | Reason
"""How a fault ended, or why a userfaultfd has to be told."""


def hugetlb_fault(fault: Fault) -> Outcome:
    """One attempt, with a lock on the area held."""
    mm, vma = fault.mm, fault.vma
    fault.address &= -vma.page_bytes
    file = owned_file(vma)
    index = vma.index_of(fault.address, mm.machine.page_shift)
    with fault_mutex(file, index), reading(mm.machine, vma):
        page = make(mm, vma, fault.address)
        entry = page.read("hugetlb fault: read")
        answer = _answer(fault, page, entry, index)
    if page.fmt.kind(entry) == MIGRATION:
        table, slot = page.slots[0]
        wait(
            (table.address, slot),
            WAIT,
            "hugetlb fault: wait for migration",
            lambda: table.entries.get(slot, 0) != entry,
        )
    return notify(fault, answer) if isinstance(answer, Reason) else answer


def _answer(fault: Fault, page: HugePage, entry: int, index: int) -> Answer:
    """Answer by the kind of entry, under both locks."""
    fmt = page.fmt
    kind = fmt.kind(entry)
    if kind == HWPOISON or (kind == MARKER and fmt.marker(entry) & MARKER_POISON):
        return Outcome.HWPOISON
    if kind in (NONE, MARKER):
        return _no_page(fault, page, entry, index)
    return _present(fault, page, entry) if kind == LEAF else Outcome.DONE


def _no_page(fault: Fault, page: HugePage, entry: int, index: int) -> Answer:
    """Map the file's page, or a fresh one that only this area has (``hugetlb_no_page``)."""
    vma = fault.vma
    memory, file = fault.mm.machine.memory, owned_file(vma)
    shared = bool(vma.flags & VM_SHARED)
    folio = file.cached(index)
    refusal = _refusal(fault, folio, index, shared=shared)
    if refusal is not None:
        return refusal
    anon = folio is None and not shared
    if folio is None:
        folio = new_folio(vma)
        if shared:
            file.insert(index, folio)
    if not anon:
        memory.get(folio, "hugetlb fault: get")
    with page.lock:
        if page.read("hugetlb fault: recheck") != entry:
            memory.put(folio, "hugetlb fault: lost the race")
            return Outcome.DONE
        return _map(fault, page, entry, folio, anon=anon)


def _refusal(fault: Fault, folio: Folio | None, index: int, *, shared: bool) -> Answer | None:
    """Why no page can be mapped now: beyond the file, wanted by a userfaultfd, or not under this lock."""
    vma = fault.vma
    if folio is not None:
        if is_poisoned(folio, "hugetlb fault: failed?"):
            return Outcome.HWPOISON
        return Reason.MINOR if vma.flags & VM_UFFD_MINOR else None
    if index >= owned_file(vma).n_pages:
        return Outcome.SIGBUS
    if vma.flags & VM_UFFD_MISSING:
        return Reason.MISSING
    return None if shared or has_root(fault) else Outcome.RETRY


def _map(fault: Fault, page: HugePage, entry: int, folio: Folio, *, anon: bool) -> Outcome:
    """Map a folio under the page's lock; a page that was protected before it existed stays so."""
    vma, shared = fault.vma, bool(fault.vma.flags & VM_SHARED)
    if anon:
        map_anon(fault.mm, vma, folio, fault.address)
    else:
        map_again(folio)
    new = leaf_of(vma, page, folio, writable=shared)
    if page.fmt.marker(entry) & MARKER_UFFD_WP:
        new = page.fmt.mkuffd_wp(new)
    page.write(new, "hugetlb fault: map")
    # A private page is copied at once instead of by a second fault.
    return _write_protected(fault, page, new) if fault.writing and not shared else Outcome.DONE


def _present(fault: Fault, page: HugePage, entry: int) -> Answer:
    """Protection first, then copy-on-write, then accessed and dirty."""
    vma, fmt = fault.vma, page.fmt
    with page.lock:
        if page.read("hugetlb fault: recheck") != entry:
            return Outcome.DONE
        flags = fmt.flags(entry)
        if fault.writing and vma.uffd_wp and flags & UFFD_WP and not flags & WRITE:
            if not vma.wp_async:
                return Reason.WP
            entry = fmt.clear_uffd_wp(entry)
            page.write(entry, "hugetlb fault: resolve write-protection")
        if fault.access is not Access.READ and not flags & WRITE:
            return _write_protected(fault, page, entry)
        after = fmt.mkyoung(fmt.mkdirty(entry) if fault.writing else entry)
        if after != entry:
            page.write(after, "hugetlb fault: set accessed and dirty")
    return Outcome.DONE


def _write_protected(fault: Fault, page: HugePage, entry: int) -> Outcome:
    """A write (or unshare) found a read-only page (``hugetlb_wp``); the page's lock is held.

    A page that is still protected is never copied: the fault that comes next resolves the protection.
    """
    vma, fmt = fault.vma, page.fmt
    unshare = fault.access is Access.UNSHARE
    if not unshare and fmt.flags(entry) & UFFD_WP:
        return Outcome.DONE
    memory = fault.mm.machine.memory
    folio = memory.folio(fmt.pfn(entry))
    if vma.flags & VM_SHARED or (folio.anon and memory.count_maps(folio, "hugetlb fault: count leaves") == 1):
        if folio.anon:
            set_exclusive(folio, 0, "hugetlb fault: exclusive now")
        if not unshare and vma.flags & VM_WRITE:
            page.write(fmt.mkwrite(fmt.mkdirty(entry)), "hugetlb fault: make writable")
        return Outcome.DONE
    if fault.per_vma and not has_root(fault):
        return Outcome.RETRY
    return _copy(fault, page, entry, folio)


def _copy(fault: Fault, page: HugePage, entry: int, old: Folio) -> Outcome:
    """Give the area a copy of its own; the lock is dropped while copying, and then all is looked at again."""
    mm, vma, fmt = fault.mm, fault.vma, page.fmt
    memory = mm.machine.memory
    memory.get(old, "hugetlb copy: hold the old page")
    page.lock.release()
    prepare_anon_vma(mm, vma)
    new = new_folio(vma)
    for number in sorted(old.words):
        memory.copy_page(new, number, old, number, "hugetlb copy: page")
    start, end = fault.address, fault.address + vma.page_bytes
    with invalidating(mm, Event.CLEAR, start, end):
        page.lock.acquire()
        again = find(mm, start, vma.page_bytes, "hugetlb copy: find again")
        replaced = again is not None and again.read("hugetlb copy: recheck") == entry
        if replaced:
            old_entry = page.take("hugetlb copy: clear the old entry")
            flush_range(mm, start, end)
            keep_dirty(None if old.anon else old, fmt, old_entry)
            unmap(old)
            map_anon(mm, vma, new, start)
            fresh = leaf_of(vma, page, new, writable=fault.access is not Access.UNSHARE)
            if fmt.flags(old_entry) & UFFD_WP:
                fresh = fmt.mkuffd_wp(fresh)
            page.write(fresh, "hugetlb copy: map the new page")
    memory.put(old, "hugetlb copy: release the old page", 1 + replaced)
    if not replaced:
        memory.put(new, "hugetlb copy: lost the race")
    return Outcome.DONE


def new_folio(vma: Vma) -> Folio:
    """A zeroed page of the area's size."""
    return owned_file(vma).new_folio()


def leaf_of(vma: Vma, page: HugePage, folio: Folio, *, writable: bool) -> int:
    """A fresh leaf of the whole folio (``make_huge_pte``); dirty as well if writable."""
    fmt = page.fmt
    entry = fmt.leaf(folio.pfn, leaf_flags(owned_file(vma).machine, vma) & ~WRITE, vma.page_bytes)
    return fmt.mkwrite(fmt.mkdirty(entry)) if writable and vma.flags & VM_WRITE else entry


def cached_page(file: FileMapping, vma: Vma, address: int) -> Folio | None:
    """What the page cache holds for an address of the area."""
    return file.cached(vma.index_of(address & -vma.page_bytes, file.machine.page_shift))
