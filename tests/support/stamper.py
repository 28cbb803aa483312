"""A program that stores to known pages at known times and says so.

``python stamper.py PAGES STAMPS SEED`` prints the address of its pages and stores to one random page after another.
Once its input has a line (or its end), it goes on for that many more stores. Then it prints ``PAGE BEGAN ENDED``
(monotonic nanoseconds) for each, and exits with code 42.
"""

import ctypes
import mmap
import os
import random
import select
import sys
import time


def main() -> None:
    n_pages, n_left, seed = map(int, sys.argv[1:])
    memory = mmap.mmap(-1, n_pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    sys.stdout.write(f"{base}\n")
    sys.stdout.flush()
    seeded = random.Random(seed)
    stamps = []
    while n_left:
        time.sleep(seeded.uniform(0, 0.02))
        page = seeded.randrange(n_pages)
        began_ns = time.monotonic_ns()
        memory[page * mmap.PAGESIZE + n_left % mmap.PAGESIZE] = 1 + n_left % 255
        stamps.append((page, began_ns, time.monotonic_ns()))
        n_left -= bool(select.select([sys.stdin], [], [], 0)[0])
    for stamp in stamps:
        sys.stdout.write("{} {} {}\n".format(*stamp))
    sys.stdout.flush()
    # An orderly end would unmap the memory first, and what was stored last would be gone before the last collect.
    os._exit(42)


if __name__ == "__main__":
    main()
