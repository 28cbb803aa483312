"""hugetlb: huge pages that are promised, not opportunistic (mm/hugetlb.c), of every size a format has.

A huge page is one thing, however many entries it takes: a leaf higher up, a block of contiguous leaves,
or slots of a hugepd. ``entries`` reads and writes all entries of a page as one, so everything else here
reads as if there were one; ``tables`` makes the tables above them.

* ``fault``, ``zap``, ``fork``, ``mremap``, ``protect``, ``fill``, ``truncate``: what hugetlb does where
  other memory goes through the module of the same name; each is the kernel's own hugetlb function.
* ``sharing``: processes that map the same gigabyte of a file share the page table of it.
* ``locks``: the hugetlb vma lock, and the mutex of a page of a file.
* ``sizes``: the names of sizes, and which areas may stand side by side.
"""
