"""MMU notifiers: how a secondary MMU (a virtual machine's, a device's) learns that mappings change.

Changes are bracketed: at *start* the secondary MMU drops its mappings of the range, and until *end* it
may not establish them again. The old ``change_pte`` callback became useless inside such brackets, where
there is nothing left to change, and went in 6.10.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING

from pagewatch.steps import READ, WRITE, access

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


class Event(Enum):
    """Why mappings change (``enum mmu_notifier_event``)."""

    UNMAP = "unmap"
    CLEAR = "clear"
    PROTECTION_VMA = "protection of a whole area"
    PROTECTION_PAGE = "protection of pages"
    SOFT_DIRTY = "soft-dirty cleared"
    RELEASE = "address space goes away"
    MIGRATE = "migration"
    EXCLUSIVE = "exclusive device access"


class SecondaryMmu:
    """A second set of translations of one address space, filled on demand."""

    def __init__(self, mm: "Mm") -> None:
        """:param mm: the address space it mirrors; it subscribes to its notifiers."""
        self.mm = mm
        self.translations: dict[int, tuple[int, bool]] = {}
        """Virtual page -> (frame, writable)."""
        self.open_ranges: list[tuple[int, int]] = []
        """Ranges between start and end, bytes."""
        self.events: list[tuple[Event, int, int]] = []
        """Every start, in order."""
        mm.notifiers.append(self)

    def invalidate_start(self, event: Event, start: int, end: int) -> None:
        """Drop what lies in the range, and establish nothing there until the end."""
        access(("secondary", self.mm.id), WRITE, "notifier: start")
        self.events.append((event, start, end))
        self.open_ranges.append((start, end))
        shift = self.mm.machine.page_shift
        for vpn in [v for v in self.translations if start <= v << shift < end]:
            del self.translations[vpn]

    def invalidate_end(self, start: int, end: int) -> None:
        """The range may be established again."""
        access(("secondary", self.mm.id), WRITE, "notifier: end")
        self.open_ranges.remove((start, end))

    def establish(self, address: int, pfn: int, *, writable: bool) -> bool:
        """Take over a translation; False inside a bracket: the caller retries (``mmu_invalidate_retry``)."""
        access(("secondary", self.mm.id), WRITE, "secondary: establish")
        if any(start <= address < end for start, end in self.open_ranges):
            return False
        self.translations[address >> self.mm.machine.page_shift] = (pfn, writable)
        return True

    def change(self, address: int, pfn: int) -> bool:
        """The page behind an address is another one now (``change_pte``); says whether that changed anything."""
        access(("secondary", self.mm.id), WRITE, "notifier: change_pte")
        vpn = address >> self.mm.machine.page_shift
        if vpn not in self.translations:
            return False
        self.translations[vpn] = (pfn, False)
        return True

    def lookup(self, address: int) -> tuple[int, bool] | None:
        """The translation of an address, if established."""
        access(("secondary", self.mm.id), READ, "secondary: look up")
        return self.translations.get(address >> self.mm.machine.page_shift)

    def close(self) -> None:
        """Unsubscribe."""
        self.mm.notifiers.remove(self)


def change_secondary(mm: "Mm", address: int, pfn: int) -> None:
    """Tell every secondary MMU of a new page (``mmu_notifier_change_pte``)."""
    for listener in tuple(mm.notifiers):
        listener.change(address, pfn)


@contextmanager
def invalidating(mm: "Mm", event: Event, start: int, end: int) -> Iterator[None]:
    """Bracket a change of [start, end) for every secondary MMU (``mmu_notifier_invalidate_range_start``)."""
    listeners = tuple(mm.notifiers)
    for listener in listeners:
        listener.invalidate_start(event, start, end)
    try:
        yield
    finally:
        for listener in listeners:
            listener.invalidate_end(start, end)
