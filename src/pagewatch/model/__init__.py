"""A model of the Linux kernel's page-table machinery: small, executable, meant to be read.

Each module stands for a part of mm/ and reads like its manual page; docstrings name the kernel function
that a function stands for. State::

    machine     CPUs, memory, page tables, swap: what all address spaces share
    mm, vma     one address space, its areas      tables, arch/  page tables, entry formats
    memory      folios and their contents         file, swap     page cache, swap slots
    tlb, rcu, locks, notifier, rmap, quirks

and what happens to it::

    mmu         loads and stores as hardware makes them        fault/     page faults
    walk        the one way to the entries                     zap        taking memory out
    areas       mmap, munmap, mprotect                         protect    changing protection
    mremap, fork, truncate                                     reclaim    paging out
    madvise     with guard, lazyfree, populate                 softdirty  clear_refs
    uffd/       userfaultfd                                    scan/      PAGEMAP_SCAN and pagemap
    hugetlb/    huge pages of every size, PMD sharing, hugepd  gather     what was taken out
    thp, foliosplit, unmap                                     gup, gup_fast, pins
                huge pages split, and put together again by    reaching pages past the tables
    collapse/   MADV_COLLAPSE and khugepaged
    dirty_helpers, driver_policy                           migrate    to a device and back
                cleaning shared file ranges                poison     memory that failed
    explain     what happened to an address                picture    page tables drawn
    invariants  what holds whenever nothing is in progress
    kernel      the system calls, as methods of a process      adapters   the model as ports

Everything is plain synchronous code that announces each access to shared state through
:mod:`pagewatch.steps`, so the explorer can preempt it anywhere.
"""

from pagewatch.model.errors import KernelBug as KernelBug
from pagewatch.model.errors import Signal as Signal
from pagewatch.model.errors import UseAfterFree as UseAfterFree
from pagewatch.model.kernel import Kernel as Kernel
from pagewatch.model.kernel import Process as Process
from pagewatch.model.quirks import Quirks as Quirks
