"""What happened to an address, in words.

A :class:`Story` watches every announced access and keeps those that concern some pages: entries that map
them (before and after), TLB slots, flushes, notifiers, stores and copies, faults, sleeps and pins. Other steps,
such as walking and locking, change nothing that the pages mean, and are left out.
"""

from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pagewatch.model.arch.format import (
    KIND_NAMES,
    LEAF,
    MARKER,
    NONE,
    SWAP,
    TABLE,
    EntryFormat,
    flag_names,
)
from pagewatch.steps import READ, Kind, Whole

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table
    from pagewatch.model.tlb import Translation

_MARKER_NAMES = ("uffd-wp", "poison", "guard")
_TOLD_LABELS = {
    "fault: find the area": "faults",
    "userfault: sleep": "sleeps until the userfaultfd answers",
    "fault: wait for migration": "waits for the migration to end",
    "notifier: start": "tells secondary MMUs to drop their translations",
    "notifier: end": "lets secondary MMUs translate again",
    "notifier: change_pte": "offers secondary MMUs the new page",
}
"""Steps that are told as they are: what a thread does, in words."""
_HOLDS = {
    "gup: take a reference": "takes a reference to",
    "gup: pin": "pins",
    "gup: put": "lets go of",
    "gup: unpin": "unpins",
    "gup fast: take a reference": "takes a reference, without any lock, to",
    "gup fast: pin": "makes that a pin of",
}
"""What is done to folios behind the pages, past the page tables."""


class Event(NamedTuple):
    """One thing that happened."""

    thread: Hashable
    """Who did it, as the scheduler numbers threads; 0 without one."""
    label: str
    """The step, as schedules name it."""
    what: str
    """What it did, in words."""


class Story:
    """What happened to the pages of one range of one address space, in order; ``str`` tells it."""

    def __init__(self, mm: "Mm", start: int, end: int) -> None:
        """:param start: with ``end`` the range, bytes; its pages are numbered from 0."""
        self.events: list[Event] = []
        shift = mm.machine.page_shift
        self._mm = mm
        self._first = start >> shift
        self._last = end - 1 >> shift
        self._settle: Callable[[], str | None] | None = None
        self._actor: tuple[Hashable, str] = (0, "")
        self._folios: set[int] = set()
        for _, table, slot in self._path_entries():
            self._note_folio(table.fmt, table.entries.get(slot, 0))

    def before(self, thread: Hashable, key: Hashable, kind: Kind, label: str) -> None:
        """See :meth:`pagewatch.steps.Observer.before`."""
        self.end()
        self._actor = thread, label
        if label in _TOLD_LABELS:
            self._tell(_TOLD_LABELS[label])
        elif kind is not READ and isinstance(key, tuple):
            self._settle = self._watch(key)
        elif label == "tlb: fill with a block" and isinstance(key, Whole):
            self._settle = self._watch_block(key)

    def end(self) -> None:
        """Look at what the last access did; it has happened by now."""
        if self._settle is not None:
            settle, self._settle = self._settle, None
            what = settle()
            if what:
                self._tell(what)

    def _tell(self, what: str) -> None:
        self.events.append(Event(*self._actor, what))

    def _watch(self, key: tuple[Hashable, ...]) -> Callable[[], str | None] | None:
        """How to tell what the access did, once it has; None where it is of no interest."""
        match key:
            case (int(), int()):
                return self._watch_entry(key)
            case ("tlb", int(cpu), int(mm_id), int(vpn)) if mm_id == self._mm.id and self._first <= vpn <= self._last:
                return self._watch_tlb(cpu, vpn)
            case ("word", int(pfn), int()):
                return lambda: f"writes a word of frame {pfn:#x}"
            case ("refs", int(pfn)) if pfn in self._folios and self._actor[1] in _HOLDS:
                what = f"{_HOLDS[self._actor[1]]} frame {pfn:#x}"
                return lambda: what
            case ("bitmap", *_):
                return lambda: "changes the bitmap"
        return None

    def _watch_entry(self, key: tuple[Hashable, ...]) -> Callable[[], str | None] | None:
        for vpn, table, slot in self._path_entries():
            if (table.address, slot) == key:
                return partial(self._entry_change, vpn, table, slot, table.entries.get(slot, 0))
        return None

    def _entry_change(self, vpn: int, table: "Table", slot: int, old: int) -> str | None:
        fmt, new = table.fmt, table.entries.get(slot, 0)
        if new == old:
            return None
        self._note_folio(fmt, new)
        return f"{fmt.name} of page {vpn - self._first}: {entry_words(fmt, old)} -> {entry_words(fmt, new)}"

    def _note_folio(self, fmt: EntryFormat, entry: int) -> None:
        """Remember which folios have been behind the pages."""
        if fmt.kind(entry) == LEAF:
            folio = self._mm.machine.memory.find(fmt.pfn(entry))
            if folio is not None:
                self._folios.add(folio.pfn)

    def _watch_tlb(self, cpu: int, vpn: int) -> Callable[[], str | None]:
        tlb = self._mm.machine.cpus[cpu].tlb
        old, page = tlb.get((self._mm.id, vpn)), vpn - self._first

        def settle() -> str | None:
            new = tlb.get((self._mm.id, vpn))
            if new is not None:
                return f"TLB of cpu{cpu}: page {page} is {_translation_words(new)}"
            return None if old is None else f"TLB of cpu{cpu}: page {page} forgotten"

        return settle

    def _watch_block(self, key: Whole) -> Callable[[], str | None] | None:
        """A TLB that remembers a whole block: told once for all of its pages."""
        _, cpu, mm_id = key.name
        if mm_id != self._mm.id:
            return None
        tlb = self._mm.machine.cpus[int(str(cpu))].tlb
        slots = {vpn: (mm_id, vpn) for vpn in range(self._first, self._last + 1)}
        old = {vpn: tlb.get(slot) for vpn, slot in slots.items()}

        def settle() -> str | None:
            new = {vpn: found for vpn, slot in slots.items() if (found := tlb.get(slot)) is not old[vpn] and found}
            if not new:
                return None
            pages = f"pages {min(new) - self._first} to {max(new) - self._first}"
            return f"TLB of cpu{cpu}: {pages}, as one block, from {_translation_words(new[min(new)])}"

        return settle

    def _path_entries(self) -> Iterator[tuple[int, "Table", int]]:
        """The entries that decide each page, on every level, read without announcing it."""
        machine = self._mm.machine
        for vpn in range(self._first, self._last + 1):
            table = self._mm.root
            while True:
                fmt = table.fmt
                slot = fmt.index(vpn << machine.page_shift)
                yield vpn, table, slot
                entry = table.entries.get(slot, 0)
                if fmt.level == 0 or fmt.kind(entry) != TABLE:
                    break
                table = machine.tables.below(table, entry)

    def __str__(self) -> str:
        return "\n".join(f"{event.thread}  {event.label}: {event.what}" for event in self.events)


def entry_words(fmt: EntryFormat, entry: int) -> str:
    """An entry in words: what kind it is, where it points, and its bits by name."""
    kind = fmt.kind(entry)
    if kind == NONE:
        return "empty"
    if kind == TABLE:
        return f"table at {fmt.table_address(entry):#x}"
    if kind == MARKER:
        payload = fmt.marker(entry)
        return f"marker [{' '.join(name for bit, name in enumerate(_MARKER_NAMES) if payload >> bit & 1)}]"
    flags = f" [{' '.join(flag_names(fmt.flags(entry)))}]"
    if kind == LEAF:
        n_entries = fmt.leaf_bytes(entry) >> fmt.shift
        where = f"block of {n_entries} at frame" if n_entries > 1 else "frame"
        return f"{where} {fmt.pfn(entry):#x}{flags}"
    if kind == SWAP:
        return f"swap slot {fmt.swap(entry)[1]}{flags}"
    return f"{KIND_NAMES[kind]} of frame {fmt.pfn(entry):#x}{flags}"


def _translation_words(translation: "Translation") -> str:
    rights = "writable" if translation.writable else "read-only"
    return f"frame {translation.pfn:#x}, {rights}, {'dirty' if translation.dirty else 'clean'}"
