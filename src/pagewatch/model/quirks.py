"""Kernel behaviours that differ between versions and configurations, each named by the change.

The default is the kernel that the conformance tests run on: an x86-64 6.18 stable kernel with the
PAGEMAP_SCAN fixes of 2026, without CONFIG_MEM_SOFT_DIRTY and CONFIG_MEMORY_FAILURE.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """One kernel's choice of behaviours."""

    soft_dirty: bool = False
    """CONFIG_MEM_SOFT_DIRTY: without it ``clear_refs`` 4 succeeds and tracks nothing."""
    memory_failure: bool = False
    """CONFIG_MEMORY_FAILURE: poison answers with BUS_MCEERR_AR; without it with BUS_ADRERR."""
    scan_holes_written: bool = True
    """2026 fixes of PAGEMAP_SCAN: memory without a page table in a write-protect registered mapping reads
    as WRITTEN, and so does every empty entry; before, only the fast path said so of empty entries."""
    scan_stale_walk_end: bool = True
    """PAGEMAP_SCAN stages 512 regions; a complete last chunk does not reset walk_end (also in 7.2)."""
    scan_of_dead_fails: bool = True
    """A late stable fix of 6.18: PAGEMAP_SCAN of an address space that is gone is ESRCH, before any argument is
    looked at; before, it succeeded and found nothing."""
    scan_hugetlb_by_2m: bool = False
    """Before the 2026 fixes: a hugetlb page counts as whole only at 2 MiB, so larger ones are never armed."""
    scan_hugetlb_hole_deadlocks: bool = False
    """Before the 2026 fixes: arming a table-less hugetlb range takes the vma lock twice and hangs for ever."""
    hugetlb_vma_lock: bool = True
    """Since 5.7 (by ``i_mmap_rwsem``) and 6.1 (by a lock of its own): who works on a huge entry keeps its page
    table from being unshared; before, a fault could go on in a table that was others' by then."""
    hugetlb_unshare_syncs: bool = True
    """Since 6.16 (CVE-2025-38085): unsharing waits for lockless walkers before it gives up the page table."""
    hugetlb_unshare_flushes: bool = True
    """Since 5.16 (CVE-2021-4002): unmapping flushes what an unshared page table spanned; before, stale
    translations reached pages that the last sharer had freed."""
    uffd_refuses_special: bool = True
    """2026 fixes: registering IO, PFNMAP, MIXEDMAP and DONTEXPAND mappings is EINVAL."""
    zap_frees_tables: bool = True
    """PT_RECLAIM (x86, since 6.14): MADV_DONTNEED of a whole table's span frees the table."""
    fault_around_needs_table_for_tail: bool = True
    """Since "mm/memory: do not populate page table entries beyond i_size" (6.18, and stable 6.12): where all that
    could be mapped around a fault is the end of a file, no page table is made for it; memfds are excepted."""
    fault_around_maps_whole_folios: bool = True
    """Since 6.18: a large folio of the page cache is mapped as a whole around a read fault, if it fits into the area
    and the page table; before, as much of it as lies within the 64 KiB around the fault."""
    files_keep_halves: bool = True
    """Since "mm/truncate: use folio_split() in truncate operation" (6.15): a large folio of which a file loses a
    part is halved around where the part begins and ends; before, all of its pages were alone afterwards."""
    mremap_moves_several: bool = True
    """mremap that only moves takes all areas of its range along (since 6.17); before, EFAULT at the second."""
    mremap_checks_first: bool = True
    """Since 6.17: mremap looks at all its arguments before it looks at areas, and refuses before it unmaps anything;
    before, memory that is not mapped came first, and a refused move had emptied its target by then."""
    guards: bool = True
    """MADV_GUARD_INSTALL and MADV_GUARD_REMOVE (since 6.13); before, they are EINVAL as any unknown advice."""
    guards_in_files: bool = True
    """Guards also in memory of files, and in shared memory (since 6.15); before, EINVAL there."""
    guards_mark_areas: bool = True
    """VM_MAYBE_GUARD (6.19 and 6.18 stable): fork copies the tables of an area that ever had guards; before, guards
    gave any area a reverse-mapping root of its own, to the same end."""
    guard_install_spins_on_markers: bool = True
    """MADV_GUARD_INSTALL over write-protected file memory (6.15, still in 6.18) starts over for ever."""
    guard_category: bool = True
    """PAGEMAP_SCAN reports guard markers as GUARD (since 6.16); before, EINVAL for who asks for that."""

    thp_enabled: Literal["always", "madvise", "never"] = "madvise"
    """/sys/kernel/mm/transparent_hugepage/enabled."""
    thp_zero_page: bool = True
    """.../use_zero_page: a read fault maps the huge zero page."""
    collapse_needs_writable_page: bool = False
    """Before "mm: enable khugepaged anonymous collapse on non-writable regions" (6.18): private memory was collapsed
    only if one of its entries at least let the CPU write: not after a fork, or where all is empty."""
    collapse_makes_upper_tables: bool = True
    """Since 6.18: MADV_COLLAPSE maps a file's huge page also where not even a table of tables is; before, the file's
    pages became a huge one, but the answer was EINVAL."""
    pagemap_judges_huge_by_first_page: bool = True
    """Since CONFIG_PAGE_MAPCOUNT became a choice (6.15): pagemap says of all pages of a huge leaf whether they are
    mapped once by looking at the first; before, each was looked at."""
    thp_replaces_zero_page: bool = True
    """Since 6.13: a write to the huge zero page gives a huge page; before it was split."""
    flush_is_broadcast: bool = False
    """TLB flushes are broadcast by hardware (arm64, powerpc, s390) instead of sent as interrupts: they wait
    for instructions under way, not for sections with interrupts off."""

    contpte: bool = True
    """ARM64_CONTPTE (arm64, since 6.9): entries that map an aligned block of a large folio alike become one
    contiguous leaf."""

    notifier_change_pte: bool = False
    """Before 6.10: copy-on-write told secondary MMUs the new page directly (``set_pte_at_notify``)."""

    # What follows are defects, to be explored: what the kernel does instead is the default.
    contpte_skips_flush: bool = False
    """The kernel does not flush a block between its clearing and its writing as single entries, or the other way
    round; only CPUs that bear both forms at a time would bear that."""
    dirty_helpers_skip_flush: bool = False
    """The address-space helpers leave the TLB flush to their caller."""
    dirty_helpers_ignore_nested_flush: bool = False
    """They do not look whether somebody else's flush is pending (``mm_tlb_flush_nested``)."""
    dirty_helpers_update_in_two_steps: bool = False
    """wp_shared_mapping_range reads an entry and then sets it, instead of taking it out in one step."""
    mkwrite_unlocks_early: bool = False
    """The driver's hook for first stores drops its lock before the entry is writable, not after."""
    migrate_drops_dirty: bool = False
    """Before 6.0 (fd35ca3d12cc): device migration did not carry the entry's dirty bit to the folio."""
    migrate_flushes_late: bool = False
    """Before 6.0 (60bae7370896): device migration flushed after it had released the page-table lock."""
    scan_protects_beyond_report: bool = False
    """PAGEMAP_SCAN protects a huge page although it reports only part of it: neither split nor left out."""
    split_loses_late_dirty: bool = False
    """Before 4.16 (d52605d7cb30): splitting a huge page went by its entry as it was before it was taken out, so
    dirty bits that hardware set meanwhile were lost."""
    scan_flushes_only_changes: bool = False
    """Proposed in review and left aside: PAGEMAP_SCAN flushes up to the last entry that it protected. The
    kernel flushes up to where its walk of the table stopped."""
    gup_fast_skips_pte_recheck: bool = False
    """Fast GUP does not look at the entry again after it took the page."""
    gup_fast_skips_pmd_recheck: bool = False
    """Before 6.1 (70cbc3cc78a9): fast GUP did not look at the directory entry again, and could take a page
    that a collapse was just replacing."""
    gup_fast_ignores_forks: bool = False
    """Before 5.11 (57efa1fe5957): fast GUP did not ask whether a fork ran meanwhile, and could pin a page that the
    fork had just found unpinned and was about to share."""
    gup_unshares: Literal["until exclusive", "once", "never"] = "until exclusive"
    """Before 5.19 (a7f226604170) pins for reading did not unshare at all. "once" does not look again afterwards."""
    gup_hugepd_skips_unshare: bool = False
    """Before 6.10: fast GUP of a hugepd let read pins of pages through that are not exclusive."""
    collapse_sends_no_interrupt: bool = False
    """Collapse does not interrupt all CPUs between clearing the directory entry and looking at the pages."""
    collapse_drops_lock_before_copies: bool = False
    """Mapping a file's huge page drops the table's lock between its last look at the entries and the removal of
    the table, also where UFFDIO_COPY may insert a private page."""
    retract_skips_recheck: bool = False
    """retract_page_tables looks at the area once, before it holds the table's lock."""
    retract_frees_at_once: bool = False
    """Before 6.6: tables of collapsed files were freed without waiting for walkers that hold no lock."""
    areas_change_without_their_lock: bool = False
    """Areas are cut, registered and unmapped under the mmap lock alone, though faults hold only the area's own
    (no ``vma_start_write``)."""
