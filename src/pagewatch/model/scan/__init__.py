"""PAGEMAP_SCAN and its elder, the words of /proc/PID/pagemap (fs/proc/task_mmu.c).

``classify`` alone says what an entry is; ``output`` collects regions within the limits; ``walk`` applies
both to an address space and protects what was reported; ``call`` is the ioctl around it; ``words`` the
legacy interface. ``draft`` and ``draft_walk`` are the ioctl as it was proposed at first.
"""
