"""A program that stores to known pages at known times and says so.

``python stamper.py PAGES STAMPS SEED`` prints the address of its pages, waits for a line if its input is a
pipe, then stores to one random page after another and prints ``PAGE BEGAN ENDED`` (monotonic nanoseconds) at
the end, so that nothing but the store itself is timed. Its exit code is 42.
"""

import ctypes
import mmap
import random
import sys
import time


def main() -> None:
    n_pages, n_stamps, seed = map(int, sys.argv[1:])
    memory = mmap.mmap(-1, n_pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    sys.stdout.write(f"{base}\n")
    sys.stdout.flush()
    seeded = random.Random(seed)
    stamps = []
    for count in range(n_stamps):
        time.sleep(seeded.uniform(0, 0.02))
        page = seeded.randrange(n_pages)
        began_ns = time.monotonic_ns()
        memory[page * mmap.PAGESIZE + count % mmap.PAGESIZE] = 1 + count % 255
        stamps.append((page, began_ns, time.monotonic_ns()))
    for stamp in stamps:
        sys.stdout.write("{} {} {}\n".format(*stamp))
    sys.stdout.flush()
    sys.exit(42)


if __name__ == "__main__":
    main()
