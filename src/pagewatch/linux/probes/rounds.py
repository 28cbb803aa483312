"""The effect that matters: arm, write, and find exactly that page, more than once."""

from collections.abc import Sequence
from typing import Protocol

from pagewatch.linux.probes.support import Support
from pagewatch.linux.scratch import Scratch, armed
from pagewatch.ports import Scanner
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions

WRITTEN = Query(mask=Category.WRITTEN)


class Memory(Protocol):
    """Populated memory [start, end), of this process or of another."""

    start: int
    end: int

    def store(self, offset: int) -> None:
        """Change the byte at ``offset`` from ``start``."""
        ...


def tracks_writes(memory: Scratch, *, pages: Sequence[int] = (2, 5), page_bytes: int = PAGE_SIZE) -> Support:
    """Whether each store into memory of this process is found, alone, in its own round.

    The memory is populated first: write-protecting empty hugetlb memory hangs kernels before 6.12.107, 6.18.44
    and 7.2.13 for good.

    :param pages: the page to store into, round by round.
    :param page_bytes: bytes that one store makes written.
    :raises FeatureMissing: no asynchronous write-protection.
    :raises NotPermitted: no userfaultfd for this user.
    :raises RangeNotTrackable: the kernel does not protect this kind of memory.
    """
    memory.populate()
    with armed(memory.start, memory.end) as scanner:
        return finds_stores(memory, scanner, pages=pages, page_bytes=page_bytes)


def finds_stores(
    memory: Memory, scanner: Scanner, *, pages: Sequence[int] = (2, 5), page_bytes: int = PAGE_SIZE
) -> Support:
    """As :func:`tracks_writes`, for memory that is armed already.

    Two rounds are the least: arming again can fail where arming once did not.
    """
    for round_number, page in enumerate(pages, 1):
        memory.store(page * page_bytes)
        found = scanner.scan(memory.start, memory.end, WRITTEN, protect=True).regions
        address = memory.start + page * page_bytes
        if found != Regions([(address, address + page_bytes)]):
            return Support.no(
                f"in round {round_number} a store at byte {page * page_bytes} of armed memory "
                f"was reported as {_offsets(found, memory.start)}"
            )
    if left := scanner.scan(memory.start, memory.end, WRITTEN).regions:
        return Support.no(f"memory reads as written right after arming: {_offsets(left, memory.start)}")
    return Support.yes()


def _offsets(regions: Regions, start: int) -> str:
    if not regions:
        return "nothing"
    return ", ".join(f"bytes {first - start}-{end - start}" for first, end, _ in regions)
