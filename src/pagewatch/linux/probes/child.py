"""A process to be probed: says where its memory is, then changes the byte at each offset that it is told.

Run as a program of its own, with the standard library only; ends with its standard input.
"""

import ctypes
import mmap
import sys

N_PAGES = 8


def main() -> None:
    """Speak with the process that started this one: ``address``, then ``done`` for each offset."""
    memory = mmap.mmap(-1, N_PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, len(memory), mmap.PAGESIZE):
        memory[offset] = 1
    _say(str(ctypes.addressof(ctypes.c_char.from_buffer(memory))))
    for line in sys.stdin:
        offset = int(line)
        memory[offset] = (memory[offset] + 1) & 0xFF
        _say("done")


def _say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
