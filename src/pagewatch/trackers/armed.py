"""The books of a tracker: which memory it has armed, and what it cannot see there."""

from collections.abc import Iterable, Sequence
from itertools import chain

from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions

_TABLE_ENTRY_BYTES = 8
_LONGEST_PAUSE = 64


class ArmedMemory:
    """A set of armed ranges with their lasting blind spots. Only bookkeeping: it protects nothing."""

    def __init__(self, known_losses: Sequence[BlindReason] = ()) -> None:
        """:param known_losses: reasons that hold for all armed memory on this kernel."""
        self._known_losses = tuple(known_losses)
        self._by_mapping: list[BlindSpot] = []
        self._refused: dict[Mapping, BlindSpot] = {}
        self._retry_pause = self._retry_in = 1
        self._left_out: tuple[BlindSpot, ...] = ()
        self._pins: Sequence[BlindSpot] = ()
        self._of_large_pages = Regions()
        self._spots: tuple[BlindSpot, ...] | None = ()
        self._cover(Regions())

    @property
    def spots(self) -> tuple[BlindSpot, ...]:
        """Lasting blind spots; the same object as before as long as nothing changed."""
        if self._spots is None:
            self._spots = tuple(
                chain(
                    self._by_mapping,
                    (part for pin in self._pins for part in _within(pin, self.regions)),
                    self._refused.values(),
                    self._left_out,
                    (BlindSpot(*span, reason) for reason in self._known_losses for span in self.spans),
                )
            )
        return self._spots

    @property
    def table_bytes(self) -> int:
        """Page tables of what is armed: an entry for every page, but next to nothing for hugetlb pages."""
        return table_bytes_of(self.regions.nbytes - self._of_large_pages.nbytes)

    def add(self, pieces: Sequence[Mapping]) -> None:
        """Enter mappings (or parts of them) that are protected now. Costs as much for one as for thousands."""
        if not pieces:
            return
        # Two pieces never overlap: each page is in one mapping.
        added = Regions([(piece.start, piece.end) for piece in pieces])
        large = [(piece.start, piece.end) for piece in pieces if piece.page_size > PAGE_SIZE]
        self._of_large_pages = self._of_large_pages | Regions(large)
        self._refused = {m: s for m, s in self._refused.items() if not len(added.clip(s.start, s.end))}
        self._by_mapping += [spot for piece in pieces for spot in spots_of_mapping(piece)]
        self._cover(self.regions | added)

    def drop(self, gone: Regions) -> None:
        """Strike out ranges that are armed no more."""
        self._of_large_pages = self._of_large_pages - gone
        self._by_mapping = [
            BlindSpot(part.start, part.end, spot.reason, spot.detail)
            for spot in self._by_mapping
            for part in Regions([(spot.start, spot.end)]) - gone
        ]
        self._cover(self.regions - gone)

    def refuse(self, mapping: Mapping, spot: BlindSpot) -> None:
        """Remember a mapping that cannot be armed, and why."""
        if mapping not in self._refused:
            self._retry_pause = self._retry_in = 1
        self._refused[mapping] = spot
        self._spots = None

    def refused(self, mapping: Mapping) -> bool:
        """Whether arming this mapping was tried in vain."""
        return mapping in self._refused

    def retry_is_due(self) -> bool:
        """Whether this collect shall try what was refused again: each time after twice as many, up to 64.

        The reason may have been one of the moment: unmapped just then, another tracker's, no memory for tables.
        """
        if not self._refused:
            return False
        self._retry_in -= 1
        if self._retry_in > 0:
            return False
        self._retry_in = self._retry_pause = min(2 * self._retry_pause, _LONGEST_PAUSE)
        return True

    def forget_refused(self, mapped: Regions) -> None:
        """Forget refused mappings that do not exist any more."""
        kept = {m: spot for m, spot in self._refused.items() if len(mapped.clip(m.start, m.end))}
        if len(kept) != len(self._refused):
            self._refused = kept
            self._spots = None

    def set_pins(self, pins: Sequence[BlindSpot]) -> None:
        """Take note of what is pinned now."""
        if pins is not self._pins:
            self._pins = pins
            self._spots = None

    def leave_out(self, mappings: Iterable[Mapping]) -> None:
        """Take note of what is not armed because nobody may write to it now; in place of what was noted before."""
        left_out: list[BlindSpot] = []
        for mapping in mappings:
            before = left_out[-1] if left_out else None
            start = mapping.start
            if before and before.end == start and before.detail == mapping.label:
                start = left_out.pop().start
            left_out.append(BlindSpot(start, mapping.end, BlindReason.NOT_WRITABLE, mapping.label))
        if self._left_out != tuple(left_out):
            self._left_out = tuple(left_out)
            self._spots = None

    def _cover(self, regions: Regions) -> None:
        self.regions = regions
        self.spans = tuple((region.start, region.end) for region in regions)
        """Maximal ranges without a gap: what one scan each covers."""
        self._spots = None


def table_bytes_of(n_bytes: int) -> int:
    """Page tables of so much memory."""
    return n_bytes // PAGE_SIZE * _TABLE_ENTRY_BYTES


def spots_of_mapping(mapping: Mapping) -> list[BlindSpot]:
    """Lasting blind spots of write-protection in a mapping.

    Protection of file pages outlives their removal (as a marker), so hole punching, truncation and dropping
    private copies change bytes without a write; and a file has other doors than this mapping.
    """
    if mapping.shared:
        return [BlindSpot(mapping.start, mapping.end, BlindReason.FILE_CONTENT, mapping.label)]
    if mapping.inode:
        return [BlindSpot(mapping.start, mapping.end, BlindReason.PRIVATE_FILE, mapping.label)]
    return []


def ranges_of(spots: Iterable[BlindSpot], armed: Regions) -> Regions:
    """The memory that blind spots name, as a set; unmapped ranges have no pages any more."""
    named = Regions(page_size=armed.page_size)
    for spot in spots:
        if spot.reason is BlindReason.PINNED:
            named = named | armed.clip(spot.start, spot.end)
        elif spot.reason is not BlindReason.UNMAPPED:
            named = named | Regions([(spot.start, spot.end)], page_size=armed.page_size)
    return named


def _within(spot: BlindSpot, armed: Regions) -> list[BlindSpot]:
    return [BlindSpot(part.start, part.end, spot.reason, spot.detail) for part in armed.clip(spot.start, spot.end)]
