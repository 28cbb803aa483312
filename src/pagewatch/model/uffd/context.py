"""What stands behind a userfaultfd descriptor: its features, and the messages it queues."""

from collections.abc import Callable
from enum import Enum, IntFlag
from typing import TYPE_CHECKING

from pagewatch.steps import WRITE, access

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


class Feature(IntFlag):
    """``UFFD_FEATURE_*``, the kernel's values; fixed for a descriptor's whole life by UFFDIO_API."""

    PAGEFAULT_FLAG_WP = 1 << 0
    EVENT_FORK = 1 << 1
    EVENT_REMAP = 1 << 2
    EVENT_REMOVE = 1 << 3
    MISSING_HUGETLBFS = 1 << 4
    MISSING_SHMEM = 1 << 5
    EVENT_UNMAP = 1 << 6
    SIGBUS = 1 << 7
    THREAD_ID = 1 << 8
    MINOR_HUGETLBFS = 1 << 9
    MINOR_SHMEM = 1 << 10
    EXACT_ADDRESS = 1 << 11
    WP_HUGETLBFS_SHMEM = 1 << 12
    WP_UNPOPULATED = 1 << 13
    POISON = 1 << 14
    WP_ASYNC = 1 << 15
    MOVE = 1 << 16


ALL_FEATURES = Feature((1 << 17) - 1)
"""Every feature of the kernels modelled."""


class Mode(IntFlag):
    """What UFFDIO_REGISTER watches for."""

    MISSING = 1
    WP = 2
    MINOR = 4


class Reason(Enum):
    """Why a fault is handed to a userfaultfd."""

    MISSING = "nothing is mapped"
    WP = "the page is write-protected"
    MINOR = "the page is in the page cache, but not mapped"


class EventKind(Enum):
    """Kinds of messages; the values are the kernel's ``UFFD_EVENT_*``."""

    PAGEFAULT = 0x12
    FORK = 0x13
    REMAP = 0x14
    REMOVE = 0x15
    UNMAP = 0x16


class Message:
    """One message: a fault or an event, and whether its sender may go on."""

    __slots__ = ("address", "child", "context", "end", "kind", "reason", "target", "woken", "writing")

    def __init__(self, context: "Context", kind: EventKind, address: int) -> None:
        """:param address: bytes: where the fault is, or where the range of the event starts."""
        self.context = context
        self.kind = kind
        self.address = address
        self.reason: Reason | None = None
        self.writing = False
        self.end = address
        """End of the range of a REMOVE or UNMAP."""
        self.target = 0
        """REMAP: the new address; ``end - address`` is the length."""
        self.child: Context | None = None
        """FORK: the context of the child."""
        self.woken = False

    @property
    def flags(self) -> int:
        """``uffd_msg.arg.pagefault.flags``: WRITE 1, WP 2, MINOR 4."""
        bits = {Reason.WP: 2, Reason.MINOR: 4}
        return int(self.writing) | (bits.get(self.reason, 0) if self.reason else 0)


class Context:
    """``struct userfaultfd_ctx``: belongs to one address space."""

    __slots__ = (
        "closed",
        "events",
        "faults",
        "features",
        "handler",
        "mm",
        "number",
        "reading",
        "user_mode_only",
    )

    def __init__(self, mm: "Mm", features: Feature, *, user_mode_only: bool = False) -> None:
        """:param features: asynchronous write-protection implies protection of unpopulated memory."""
        if features & Feature.WP_ASYNC:
            features |= Feature.WP_UNPOPULATED
        self.mm = mm
        self.number = mm.machine.new_number()
        self.features = features
        self.user_mode_only = user_mode_only
        self.faults: list[Message] = []
        """Faults nobody has read yet."""
        self.reading: list[Message] = []
        """Faults that were read and wait for their wake-up."""
        self.events: list[Message] = []
        """Events nobody has read yet."""
        self.closed = False
        self.handler: Callable[[], None] | None = None
        """Stands in for a handler thread where there is no scheduler: called before a fault sleeps."""

    @property
    def wp_async(self) -> bool:
        """Whether write-protection faults are resolved in place, without a message."""
        return bool(self.features & Feature.WP_ASYNC)

    @property
    def wp_unpopulated(self) -> bool:
        """Whether empty anonymous entries can be protected."""
        return bool(self.features & Feature.WP_UNPOPULATED)

    @property
    def mmap_changing(self) -> bool:
        """Whether an event is pending: filling ioctls answer EAGAIN meanwhile."""
        return bool(self.events)

    def queue_fault(self, address: int, reason: Reason, *, writing: bool) -> Message:
        """Queue a fault message."""
        access(("userfault", self.number), WRITE, "userfault: queue")
        message = Message(self, EventKind.PAGEFAULT, address)
        message.reason = reason
        message.writing = writing
        self.faults.append(message)
        return message

    def queue_event(self, message: Message) -> None:
        """Queue an event; its sender sleeps until it is read."""
        access(("userfault", self.number), WRITE, "userfault: queue event")
        self.events.append(message)

    def forget(self, message: Message) -> None:
        """Take back a fault that turned out to be resolved."""
        access(("userfault", self.number), WRITE, "userfault: take back")
        if message in self.faults:
            self.faults.remove(message)
        if message in self.reading:
            self.reading.remove(message)

    def read(self) -> Message | None:
        """The oldest unread message, faults first; None where there is none (EAGAIN)."""
        access(("userfault", self.number), WRITE, "userfault: read")
        if self.faults:
            message = self.faults.pop(0)
            self.reading.append(message)
            return message
        if not self.events:
            return None
        message = self.events.pop(0)
        message.woken = True
        return message

    def wake(self, start: int, end: int) -> None:
        """Let go on every sleeper whose address lies in [start, end)."""
        access(("userfault", self.number), WRITE, "userfault: wake")
        for queue in (self.faults, self.reading):
            for message in [m for m in queue if start <= m.address < end]:
                message.woken = True
                queue.remove(message)
