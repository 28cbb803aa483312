"""Exact write tracking by asynchronous userfaultfd write-protection and PAGEMAP_SCAN.

Arming registers the memory and write-protects every page, populated or not. The first write to a page lifts
its protection (about a microsecond, nobody is woken, nobody waits); a collect reads the pages without protection
and protects those again, page by page in one step, so that no write can fall in between.

How it lies
-----------
Over-reports: a huge page of a kind that cannot be split (hugetlb) is written as a whole; MADV_DONTNEED, mlock and
MADV_POPULATE_WRITE count as writes. Cannot see: what ``Epoch.blind_spots`` names.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from operator import or_

from pagewatch.ports import Clock, HugePages, Layout, Scanner, WriteProtection
from pagewatch.trackers.armed import ArmedMemory, ranges_of
from pagewatch.trackers.base import Collected, Tracker
from pagewatch.trackers.scope import Scope, cut, pieces_within
from pagewatch.vocab.addresses import page_ceil, page_floor
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import RangeNotArmed, RangeNotTrackable, TargetGone
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions, join

# Exactly this query takes the kernel's short path, which looks at nothing but the protection bit.
_WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)
_HUGE = Query.where("huge & !file", returned=Category(0))
# Private memory that holds something of its own; the zero page does not.
_FILLED = Query.where("!file & !pfnzero & (present | swapped)", returned=Category(0))
_TABLE_ENTRY_BYTES = 8
_NEGLIGIBLE_BYTES = 16 << 20
_NONE = Regions()


class UffdAsync(Tracker):
    """The tracker of choice on Linux 6.7 and newer; see the module."""

    method = "uffd-async"

    def __init__(
        self,
        *,
        scanner: Scanner,
        protection: WriteProtection,
        layout: Layout,
        huge_pages: HugePages,
        clock: Clock,
        scope: Scope,
        known_losses: Sequence[BlindReason] = (),
        strict: bool = False,
        collapse_on_close: bool = False,
        release: Callable[[], None] = lambda: None,
    ) -> None:
        """:param known_losses: what this kernel is known to get wrong, for all armed memory.
        :param strict: report blind spots as written, too (they are then in ``Epoch.assumed``).
        :param collapse_on_close: put transparent huge pages that tracking split together again.
        :param release: gives back what the tracker was made from; called once, at the end of close.
        """
        super().__init__(clock)
        self._scanner = scanner
        self._protection = protection
        self._layout = layout
        self._huge_pages = huge_pages
        self._scope = scope
        self._known_losses = tuple(known_losses)
        self._strict = strict
        self._collapse_on_close = collapse_on_close
        self._release = release
        self._armed = ArmedMemory(self._known_losses)
        self._seen: Sequence[Mapping] | None = None
        self._were_huge = _NONE
        self._late_bytes = 0

    def _arm(self) -> None:
        self._disarm()
        self._armed = ArmedMemory(self._known_losses)
        self._late_bytes = 0
        self._seen = mappings = self._layout.mappings()
        refused = self._arm_pieces(self._scope.wanted(mappings))
        self._armed.set_pins(self._layout.pins())
        if not self._scope.follows_layout:
            self._check_all_armed(refused)
        if self._collapse_on_close:
            self._were_huge = join(self._scanner.scan(*span, _HUGE).regions for span in self._armed.spans)

    def _check_all_armed(self, refused: list[BlindSpot]) -> None:
        """Memory that was asked for by address must be armed, or the caller told."""
        if refused:
            self._disarm()
            raise RangeNotTrackable(refused[0].start, refused[0].end, refused[0].detail or refused[0].reason.value)
        if not self._armed.spans:
            raise RangeNotTrackable(0, 0, "nothing is mapped there")

    def _collect(self) -> Collected:
        news: list[BlindSpot] = []
        assumed: list[Regions] = []
        if self._scope.follows_layout:
            self._follow_layout(news, assumed)
        parts = [self._collect_span(start, end, news, assumed) for start, end in self._armed.spans]
        regions = parts[0] if len(parts) == 1 else join(parts)
        spots = (*self._armed.spots, *news) if news else self._armed.spots
        if self._strict and spots:
            assumed.append(ranges_of(spots, self._armed.regions))
        if not assumed:
            return Collected(regions, _NONE, spots)
        unwatched = reduce(or_, assumed) - regions
        return Collected(regions | unwatched, unwatched, spots)

    def _collect_span(self, start: int, end: int, news: list[BlindSpot], assumed: list[Regions]) -> Regions:
        try:
            return self._scanner.scan(start, end, _WRITTEN, protect=True, require_armed=True).regions
        except RangeNotArmed as error:
            # Something was mapped over armed memory since the last collect. Go on mapping by mapping.
            found = error.scan.regions if error.scan else _NONE
        for piece in pieces_within(self._layout.mappings(), start, end):
            try:
                scan = self._scanner.scan(piece.start, piece.end, _WRITTEN, protect=True, require_armed=True)
            except RangeNotArmed as error:
                found = found | error.scan.regions if error.scan else found
                # Memory such as device mappings is skipped by every scan, so that it is not among error.regions.
                unarmed = error.regions.clip(piece.start, piece.end) or Regions([(piece.start, piece.end)])
                self._armed.drop(unarmed)
                self._arm_late([cut(piece, part.start, part.end) for part in unarmed], news, assumed)
                # What lies behind the unarmed part was not reached.
                scan = self._scanner.scan(piece.start, piece.end, _WRITTEN, protect=True)
            found = found | (scan.regions & self._armed.regions)
        return found

    def _follow_layout(self, news: list[BlindSpot], assumed: list[Regions]) -> None:
        """Arm what was mapped since the last collect and forget what is gone; name both."""
        self._armed.set_pins(self._layout.pins())
        mappings = self._layout.mappings()
        if mappings is self._seen:
            return
        self._seen = mappings
        mapped = Regions([(m.start, m.end) for m in mappings])
        gone = self._armed.regions - mapped
        if len(gone):
            news += [BlindSpot(r.start, r.end, BlindReason.UNMAPPED) for r in gone]
            self._armed.drop(gone)
        self._armed.forget_refused(mapped)
        wanted = [m for m in self._scope.wanted(mappings) if not self._armed.refused(m)]
        unarmed = Regions([(m.start, m.end) for m in wanted]) - self._armed.regions
        if len(unarmed):
            fresh = [cut(m, part.start, part.end) for m in wanted for part in unarmed.clip(m.start, m.end)]
            self._arm_late(fresh, news, assumed)

    def _arm_late(self, pieces: Sequence[Mapping], news: list[BlindSpot], assumed: list[Regions]) -> None:
        """Arm memory found by a collect; what it holds already is assumed to be written since it was mapped."""
        for piece in pieces:
            # Before protecting: the marker on an empty page reads as swapped.
            filled = self._scanner.scan(piece.start, piece.end, _FILLED).regions if piece.anonymous else _NONE
            if not self._arm_pieces([piece]):
                news.append(BlindSpot(piece.start, piece.end, BlindReason.MAPPED_LATE, piece.label))
                self._late_bytes += piece.nbytes
                assumed.append(filled)

    def _arm_pieces(self, pieces: Sequence[Mapping]) -> list[BlindSpot]:
        """Register and protect; returns the blind spots of what was refused."""
        armed: list[Mapping] = []
        refused: list[BlindSpot] = []
        for piece in pieces:
            spot = self._try_arm(piece)
            if spot is None:
                armed.append(piece)
            else:
                refused.append(spot)
                self._armed.refuse(piece, spot)
        if armed:
            self._armed.add(armed)
        return refused

    def _try_arm(self, piece: Mapping) -> BlindSpot | None:
        table_bytes = piece.nbytes // piece.page_size * _TABLE_ENTRY_BYTES
        if table_bytes > _NEGLIGIBLE_BYTES and table_bytes > self._layout.table_budget_bytes():
            detail = f"{table_bytes} bytes of page tables for {piece.label}"
            return BlindSpot(piece.start, piece.end, BlindReason.TOO_SPARSE, detail)
        try:
            self._protection.register(piece.start, piece.end)
            self._protection.protect(piece.start, piece.end)
        except RangeNotTrackable as error:
            return BlindSpot(piece.start, piece.end, BlindReason.REFUSED, error.reason)
        except RangeNotArmed:
            # Mapped anew between the two steps.
            self._protection.unregister(piece.start, piece.end)
            self._seen = None
            return BlindSpot(piece.start, piece.end, BlindReason.REFUSED, "it was changing while it was armed")
        return None

    def _disarm(self) -> None:
        for start, end in self._armed.spans:
            self._protection.unregister(start, end)

    def _close(self) -> None:
        try:
            self._disarm()
            if self._collapse_on_close:
                self._collapse()
        except TargetGone:
            pass
        finally:
            self._release()

    def _collapse(self) -> None:
        size = self._huge_pages.huge_page_size()
        if not size:
            return
        for region in self._were_huge & self._armed.regions:
            start, end = page_ceil(region.start, size), page_floor(region.end, size)
            if start < end:
                self._huge_pages.collapse(start, end)

    def _armed_bytes(self) -> int:
        return self._armed.regions.nbytes

    def _armed_late_bytes(self) -> int:
        return self._late_bytes
