"""Blind spots: ranges whose writes the method in use cannot see, and why."""

from dataclasses import dataclass
from enum import Enum


class BlindReason(Enum):
    """Why writes to a range may go unseen; the value completes "writes to START-END are not seen: ..."."""

    PINNED = "pinned for device or io_uring access before it was armed"
    FILE_CONTENT = "a file's bytes also change through write(2), other mappings, truncation and hole punching"
    PRIVATE_FILE = "dropping private copies of file pages (MADV_DONTNEED) changes bytes without a write"
    MAPPED_LATE = "mapped after the last arming"
    NOT_WRITABLE = "nobody may write to it, so it is not armed: a short mprotect between two collects goes unseen"
    UNMAPPED = "unmapped before this collect"
    REFUSED = "the kernel refuses to write-protect this mapping"
    TOO_SPARSE = "arming would cost more page-table memory than is reasonable"
    ZAP_UNSEEN = "this kernel does not report huge pages dropped by MADV_DONTNEED"
    NOT_FOLLOWED = "belongs to a process that ended or appeared between two collects"


@dataclass(frozen=True, slots=True)
class BlindSpot:
    """A byte range [start, end) in which writes may have gone unseen in an epoch."""

    start: int
    """Bytes, inclusive."""
    end: int
    """Bytes, exclusive."""
    reason: BlindReason
    detail: str = ""
    """What is known beyond the reason, such as the mapping's name or the kernel's error."""

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}: {self.reason.value}" + (f" ({self.detail})" if self.detail else "")
