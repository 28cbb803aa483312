"""The books of a tracker: which memory it has armed, and what it cannot see there."""

from collections.abc import Iterable, Sequence

from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions


class ArmedMemory:
    """A set of armed ranges with their lasting blind spots. Only bookkeeping: it protects nothing."""

    def __init__(self, known_losses: Sequence[BlindReason] = ()) -> None:
        """:param known_losses: reasons that hold for all armed memory on this kernel."""
        self._known_losses = tuple(known_losses)
        self._by_mapping: list[BlindSpot] = []
        self._refused: dict[Mapping, BlindSpot] = {}
        self._pins: Sequence[BlindSpot] = ()
        self.regions = Regions()
        self.spans: tuple[tuple[int, int], ...] = ()
        """Maximal ranges without a gap: what one scan each covers."""
        self.spots: tuple[BlindSpot, ...] = ()
        """Lasting blind spots."""

    def add(self, pieces: Iterable[Mapping]) -> None:
        """Enter mappings (or parts of them) that are protected now."""
        pieces = list(pieces)
        # Two pieces never overlap: each page is in one mapping.
        self.regions = self.regions | Regions([(piece.start, piece.end) for piece in pieces])
        self._by_mapping += [spot for piece in pieces for spot in spots_of_mapping(piece)]
        self._update()

    def drop(self, gone: Regions) -> None:
        """Strike out ranges that are armed no more."""
        self.regions = self.regions - gone
        self._by_mapping = [
            BlindSpot(part.start, part.end, spot.reason, spot.detail)
            for spot in self._by_mapping
            for part in Regions([(spot.start, spot.end)]) - gone
        ]
        self._update()

    def refuse(self, mapping: Mapping, spot: BlindSpot) -> None:
        """Remember a mapping that cannot be armed, and why."""
        self._refused[mapping] = spot
        self._update()

    def refused(self, mapping: Mapping) -> bool:
        """Whether arming this mapping was tried in vain."""
        return mapping in self._refused

    def forget_refused(self, mapped: Regions) -> None:
        """Forget refused mappings that do not exist any more."""
        kept = {m: spot for m, spot in self._refused.items() if len(mapped.clip(m.start, m.end))}
        if len(kept) != len(self._refused):
            self._refused = kept
            self._update()

    def set_pins(self, pins: Sequence[BlindSpot]) -> None:
        """Take note of what is pinned now."""
        if pins is not self._pins:
            self._pins = pins
            self._update()

    def _update(self) -> None:
        self.spans = tuple((region.start, region.end) for region in self.regions)
        self.spots = (
            *self._by_mapping,
            *(part for pin in self._pins for part in _within(pin, self.regions)),
            *self._refused.values(),
            *(BlindSpot(*span, reason) for reason in self._known_losses for span in self.spans),
        )


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
