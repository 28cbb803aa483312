"""Write docs/systems.md: what the project implements, where it is, and which tests prove it.

    python scripts/systems_table.py

A module or a test that does not exist, and a system without either, is an error. Scenarios are found by the number
that their files carry.
"""

import sys
from pathlib import Path
from typing import NamedTuple

from made_page import write_or_check

from pagewatch.scenarios.script import load, shipped_names

_ROOT = Path(__file__).resolve().parents[1]
_PAGE = _ROOT / "docs" / "systems.md"
_MODULES = _ROOT / "src" / "pagewatch"
_TESTS = _ROOT / "tests"

_HEAD = """\
# The systems, where they are, and what proves them

The model is a small kernel made of these; where a user of a real kernel can reach one, it works there, too. A module or
a test that ends in `/` stands for all below it. Scenarios replay a defect and the kernel's way: `pagewatch model run
NAME`. This page is made by `scripts/systems_table.py`.
"""


class System(NamedTuple):
    """One row."""

    number: int
    title: str
    does: str
    modules: str
    """Paths below src/pagewatch, separated by blanks."""
    tests: str
    """Paths below tests, separated by blanks."""


SYSTEMS = (
    System(
        1,
        "PAGEMAP_SCAN",
        "four masks, limits, walk_end, protection of what is reported, every errno; kernel bugs as quirks",
        "model/scan/call.py model/scan/walk.py model/scan/output.py model/scan/exact.py linux/pagemap.py "
        "linux/scan_walk.py",
        "unit/model/scan/test_call.py unit/model/scan/test_walk.py unit/model/scan/test_output.py live/test_pagemap.py "
        "conformance/test_histories.py",
    ),
    System(
        2,
        "PAGEMAP_SCAN as proposed in 2023",
        "GET, GET with WP, and WP alone; its masks, limits and stricter errors; translation both ways",
        "model/scan/draft.py model/scan/draft_walk.py vocab/query.py",
        "unit/model/scan/test_draft.py unit/vocab/test_query.py",
    ),
    System(
        3,
        "One place that classifies pages",
        "entries of every level and hugetlb to categories, apart from the code that acts on them",
        "model/scan/classify.py model/scan/words.py",
        "unit/model/scan/test_classify.py unit/model/scan/test_words.py unit/model/scan/test_hugetlb.py "
        "conformance/test_histories.py",
    ),
    System(
        4,
        "Partial huge pages",
        "half of a transparent huge page is split and loses nothing; a hugetlb page is protected as a whole or not",
        "model/thp.py model/foliosplit.py model/scan/hugetlb.py model/scan/exact.py linux/pagemap.py",
        "unit/model/test_thp.py unit/model/test_foliosplit.py unit/model/scan/test_hugetlb.py "
        "unit/model/scan/test_exact.py "
        "live/test_pagemap_huge.py",
    ),
    System(
        5,
        "Flush only what changed",
        "the narrowed flush that was left aside, and the trace in which it loses a store",
        "model/scan/walk.py model/tlb.py",
        "unit/model/scan/test_flush.py unit/model/test_tlb.py",
    ),
    System(
        6,
        "Asynchronous write-protection by userfaultfd",
        "faults resolved in place, huge pages split on fault, hugetlb, memory that is not populated",
        "model/uffd/ model/fault/wp.py model/fault/huge.py linux/userfaultfd.py trackers/uffd_async.py",
        "unit/model/uffd/ unit/model/fault/ live/test_userfaultfd.py unit/trackers/test_uffd_async.py",
    ),
    System(
        7,
        "Synchronous write-protection",
        "messages, wake-ups, the SIGBUS mode, and the look at pending flushes before a copy",
        "model/uffd/context.py model/uffd/events.py model/fault/notify.py model/fault/wp.py",
        "unit/model/uffd/test_fd.py unit/model/fault/test_wp.py unit/model/test_thp.py",
    ),
    System(
        8,
        "Write watch: get and reset",
        "get and reset in one step, or reset alone, as GetWriteWatch and ResetWriteWatch have it",
        "trackers/write_watch.py model/scan/walk.py",
        "unit/trackers/test_write_watch.py live/test_write_watch.py unit/model/scan/test_walk.py",
    ),
    System(
        9,
        "Soft-dirty",
        "clear_refs, the bit of the area, what merges and moves do to it, and why it over-reports",
        "model/softdirty.py model/vma.py linux/probes/",
        "unit/model/test_softdirty.py live/test_features.py",
    ),
    System(
        10,
        "Address-space helpers that write-protect and clean",
        "both helpers with bitmap and bounds, and the driver policy that switches between them",
        "model/dirty_helpers.py model/driver_policy.py",
        "unit/model/test_dirty_helpers.py unit/model/test_driver_policy.py",
    ),
    System(
        11,
        "Page-table formats",
        "the bits and levels of x86-64, arm64, riscv64, s390 and the powerpc families; arm64's folding of ordinary "
        "memory into contiguous blocks",
        "model/arch/ model/contpte.py",
        "unit/model/arch/ unit/model/test_contpte.py",
    ),
    System(
        12,
        "hugepd, and contiguous leaves instead",
        "the same mapping in both layouts, for every size that had two",
        "model/arch/blocks.py model/arch/ppc_8xx.py model/arch/ppc_e500.py model/arch/ppc_book3s64.py model/hugetlb/",
        "unit/model/arch/test_blocks.py unit/model/hugetlb/test_sizes.py unit/model/hugetlb/test_entries.py",
    ),
    System(
        13,
        "A walker that knows no levels",
        "seek one leaf, or go through all, of whatever size and format",
        "model/walk.py",
        "unit/model/test_walk.py unit/model/arch/test_blocks.py",
    ),
    System(
        14,
        "Leaf and huge are two things",
        "a leaf is present memory; swap, migration and poison entries are none, at any level",
        "model/arch/format.py model/arch/entries.py model/arch/absent.py",
        "unit/model/arch/test_format.py unit/model/arch/test_entries.py unit/model/arch/test_absent.py",
    ),
    System(
        15,
        "Reaching pages behind addresses (GUP)",
        "slow and fast, hugetlb by the same path; pins, unshare with its retry, long-term rules, second looks",
        "model/gup.py model/gup_fast.py model/pins.py linux/pins.py",
        "unit/model/test_gup.py unit/model/test_gup_fast.py unit/model/test_pins.py live/test_pins.py",
    ),
    System(
        16,
        "Pins against tracking",
        "memory pinned before it was armed is a blind spot: found, and named",
        "model/pins.py model/adapters.py linux/pins.py trackers/base.py trackers/uffd_async.py",
        "unit/model/test_pins.py unit/model/test_adapters.py live/test_pins.py unit/trackers/test_uffd_async.py",
    ),
    System(
        17,
        "Shared page tables of hugetlb",
        "share, unshare, the vma lock, and walkers that hold none",
        "model/hugetlb/sharing.py model/hugetlb/locks.py",
        "unit/model/hugetlb/test_sharing.py unit/model/hugetlb/test_locks.py",
    ),
    System(
        18,
        "Markers in page tables",
        "write-protection, poison and guards where nothing is mapped: faults, zap, fork, mremap",
        "model/guard.py model/poison.py model/fault/handle.py model/zap.py model/fork.py model/mremap.py",
        "unit/model/test_madvise.py unit/model/test_poison.py unit/model/test_fork.py unit/model/test_mremap.py "
        "conformance/test_differences.py",
    ),
    System(
        19,
        "Failed memory",
        "entries that carry a frame and markers that do not; signals, the log, and poison carried along by address",
        "model/poison.py model/errors.py",
        "unit/model/test_poison.py unit/model/hugetlb/test_entries.py",
    ),
    System(
        20,
        "Collapse against userfaultfd",
        "anonymous and file collapse, tables taken from other mappings, tables freed late",
        "model/collapse/",
        "unit/model/collapse/",
    ),
    System(
        21,
        "Descriptors of page tables",
        "sharers counted, several tables on one page, freeing put off",
        "model/tables.py model/rcu.py",
        "unit/model/test_tables.py unit/model/test_rcu.py unit/model/hugetlb/test_sharing.py",
    ),
    System(
        22,
        "Zap",
        "one area for each call, one notifier pair for each area",
        "model/zap.py model/gather.py model/unmap.py model/hugetlb/zap.py",
        "unit/model/test_zap.py unit/model/test_zap_tables.py unit/model/test_unmap.py unit/model/test_notifier.py "
        "unit/model/hugetlb/test_zap.py",
    ),
    System(
        23,
        "MMU notifiers",
        "brackets around changes, a secondary MMU, and why change_pte had become useless",
        "model/notifier.py",
        "unit/model/test_notifier.py live/test_kvm.py",
    ),
    System(
        24,
        "The flush of a collapse",
        "whether all CPUs still have to be interrupted once fast GUP looks at the directory again; radix and hash",
        "model/collapse/anon.py model/gup_fast.py model/tlb.py",
        "unit/model/collapse/test_anon.py unit/model/test_gup_fast.py",
    ),
    System(
        25,
        "Faults under the lock of one area",
        "swap-in and userfaults give up there, and begin again under the lock of all",
        "model/fault/handle.py model/fault/swap.py model/fault/notify.py model/mm.py",
        "unit/model/fault/test_vma_lock.py unit/model/fault/test_handle.py",
    ),
    System(
        26,
        "Device migration",
        "the dirty bit carried to the page, the flush before the table's lock is dropped, pages locked if they can be",
        "model/migrate.py model/fault/swap.py",
        "unit/model/test_migrate.py",
    ),
)


def page(systems: tuple[System, ...], scenarios: dict[int, list[str]]) -> str:
    """The whole page.

    :raises SystemExit: a system has no module or no test, or names one that does not exist.
    """
    rows = ["| | system | where | proved by | scenarios |", "|---|---|---|---|---|"]
    for system in systems:
        modules, tests = _existing(system, _MODULES, system.modules), _existing(system, _TESTS, system.tests)
        names = ", ".join(f"`{name}`" for name in scenarios.get(system.number, []))
        rows.append(f"| {system.number} | **{system.title}**: {system.does} | {modules} | {tests} | {names} |")
    return "\n".join([_HEAD, *rows]) + "\n"


def _existing(system: System, top: Path, paths: str) -> str:
    missing = [path for path in paths.split() if not (top / path).exists()]
    if missing or not paths.split():
        raise SystemExit(f"system {system.number}: {', '.join(missing) or 'nothing'} below {top.relative_to(_ROOT)}")
    return "<br>".join(f"`{path}`" for path in paths.split())


def shipped() -> dict[int, list[str]]:
    """The names of the shipped scenarios by the system they show."""
    found: dict[int, list[str]] = {}
    for name in shipped_names():
        found.setdefault(load(name).system, []).append(name)
    return found


if __name__ == "__main__":
    sys.exit(write_or_check(_PAGE, page(SYSTEMS, shipped()), __doc__))
