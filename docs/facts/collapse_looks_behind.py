"""MADV_COLLAPSE of a file's pages, one of them a hole, looks one page too far for who waits for missing pages."""

import os

from common import MISSING, PAGE, SHARED, SIGBUS, Watch, checked, mapped

HUGE = 512
COLLAPSE = 25


def collapse(first_watched: int) -> str:
    """What comes of the first huge page of a file with one page in it, if pages from there on are watched."""
    fd = os.memfd_create("file")
    os.ftruncate(fd, 3 * HUGE * PAGE)
    os.pwrite(fd, b"x", 0)
    watched = mapped(3 * HUGE, SHARED, fd)
    watch = Watch(SIGBUS)
    watch.register(watched + first_watched * PAGE, HUGE, MISSING)
    room = mapped(2 * HUGE)
    aligned = room + HUGE * PAGE - 1 & -(HUGE * PAGE)
    mapped(HUGE, SHARED, fd, aligned)
    try:
        checked("madvise", aligned, HUGE * PAGE, COLLAPSE)
    except OSError as error:
        return f"refused, {os.strerror(error.errno)}"
    finally:
        os.close(fd)
    return "huge"


print("pages 511 and up watched:", collapse(511))
print("pages 512 and up watched:", collapse(512))
print("pages 513 and up watched:", collapse(513))
