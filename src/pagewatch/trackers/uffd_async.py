"""Exact write tracking by asynchronous userfaultfd write-protection and PAGEMAP_SCAN.

Arming registers the memory and write-protects every page, populated or not. The first write to a page lifts
its protection (about a microsecond, nobody is woken, nobody waits); a collect reads the pages without protection
and protects those again, page by page in one step, so that no write can fall in between.

How it lies
-----------
Over-reports: a huge page of a kind that cannot be split (hugetlb) is written as a whole; MADV_DONTNEED, mlock and
MADV_POPULATE_WRITE count as writes. Cannot see: what ``Epoch.blind_spots`` names, and direct access in flight: a
page that is pinned for a read by O_DIRECT, io_uring or a device counts as written when it is pinned; what arrives
after a collect has re-armed it is not seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
_OWN = Query.where("present & !file & !pfnzero", returned=Category(0))
_TABLE_ENTRY_BYTES = 8
_NEGLIGIBLE_BYTES = 16 << 20
_NONE = Regions()


@dataclass(slots=True)
class _Journal:
    """What one collect has come by so far; it outlives an exception that ends the collect."""

    found: list[Regions] = field(default_factory=list)
    assumed: list[Regions] = field(default_factory=list)
    news: list[BlindSpot] = field(default_factory=list)
    begun: bool = False
    overlapping: bool = False
    """Whether parts of ``found`` may hold the same page."""


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
        self._start_books()

    def _start_books(self) -> None:
        self._armed = ArmedMemory(self._known_losses)
        self._journal = _Journal()
        self._seen: Sequence[Mapping] | None = None
        self._watch(_NONE)
        self._were_huge = _NONE
        self._late_bytes = 0
        self._table_bytes = 0
        self._table_budget: int | None = None

    def _arm(self) -> None:
        self._disarm()
        self._start_books()
        mappings = self._layout.mappings()
        refused = self._arm_pieces(self._scope.wanted(mappings))
        self._armed.set_pins(self._layout.pins())
        if self._scope.ranges:
            self._check_all_armed(refused)
            self._watch(Regions(self._scope.ranges) | self._armed.regions)
        elif not self._armed.spans and any(spot.reason is BlindReason.REFUSED for spot in refused):
            raise RangeNotTrackable(refused[0].start, refused[0].end, refused[0].detail)
        if self._collapse_on_close:
            self._were_huge = join(self._scanner.scan(*span, _HUGE).regions for span in self._armed.spans)
        self._seen = None if refused else mappings

    def _check_all_armed(self, refused: list[BlindSpot]) -> None:
        """Memory that was asked for by address must be armed, or the caller told."""
        if refused:
            self._disarm()
            raise RangeNotTrackable(refused[0].start, refused[0].end, refused[0].detail or refused[0].reason.value)
        if not self._armed.spans:
            raise RangeNotTrackable(*self._scope.ranges[0], "nothing is mapped there")

    def _collect(self) -> Collected:
        journal = self._journal
        if journal.begun:
            # An exception ended the collect before: what its last scan found may not have come back.
            journal.overlapping = True
            journal.found.append(self._scanner.latest())
        journal.begun = True
        if self._scope.follows_layout:
            self._follow_layout(journal)
        for start, end in self._spans():
            self._collect_span(start, end, journal)
        return self._collected(journal)

    def _spans(self) -> tuple[tuple[int, int], ...]:
        """What to scan. Of fixed ranges all that was asked for: what is mapped into a hole there must be noticed."""
        if self._scope.follows_layout:
            return self._armed.spans
        return self._watched_spans

    def _watch(self, watched: Regions) -> None:
        self._watched = watched
        self._watched_spans = tuple((region.start, region.end) for region in watched)

    def _collected(self, journal: "_Journal") -> Collected:
        found = journal.found
        if journal.overlapping:
            regions = reduce(or_, found, _NONE)
        else:
            regions = found[0] if len(found) == 1 else join(found)
        spots = (*self._armed.spots, *journal.news) if journal.news else self._armed.spots
        assumed = journal.assumed
        if self._strict and spots:
            assumed = [*assumed, ranges_of(spots, self._armed.regions)]
        if not assumed:
            return Collected(regions, _NONE, spots)
        unwatched = reduce(or_, assumed) - regions
        return Collected(regions | unwatched, unwatched, spots)

    def _forget_collected(self) -> None:
        self._journal = _Journal()

    def _collect_span(self, start: int, end: int, journal: "_Journal") -> None:
        try:
            scan = self._scanner.scan(start, end, _WRITTEN, protect=True, require_armed=True)
        except RangeNotArmed as error:
            # Something was mapped over armed memory, or into a hole, since the last collect.
            journal.overlapping = True
            if error.scan:
                journal.found.append(error.scan.regions)
        else:
            journal.found.append(scan.regions)
            return
        for piece in pieces_within(self._layout.mappings(), start, end):
            self._collect_piece(piece, journal)

    def _collect_piece(self, piece: Mapping, journal: "_Journal") -> None:
        try:
            scan = self._scanner.scan(piece.start, piece.end, _WRITTEN, protect=True, require_armed=True)
        except RangeNotArmed as error:
            if error.scan:
                journal.found.append(error.scan.regions)
            # Memory such as device mappings is skipped by every scan, so that it is not among error.regions.
            unarmed = error.regions.clip(piece.start, piece.end) or Regions([(piece.start, piece.end)])
            self._armed.drop(unarmed)
            self._arm_late([cut(piece, part.start, part.end) for part in unarmed], journal)
            # What lies behind the unarmed part was not reached.
            scan = self._scanner.scan(piece.start, piece.end, _WRITTEN, protect=True)
        journal.found.append(scan.regions)

    def _follow_layout(self, journal: "_Journal") -> None:
        """Arm what was mapped since the last collect and forget what is gone; name both."""
        self._armed.set_pins(self._layout.pins())
        mappings = self._layout.mappings()
        if mappings is self._seen:
            return
        # Only what is done is seen: after an exception the next collect looks again.
        self._seen = None
        mapped = Regions([(m.start, m.end) for m in mappings])
        gone = self._armed.regions - mapped
        if len(gone):
            journal.news += [BlindSpot(r.start, r.end, BlindReason.UNMAPPED) for r in gone]
            self._armed.drop(gone)
        self._armed.forget_refused(mapped)
        wanted = [m for m in self._scope.wanted(mappings) if not self._armed.refused(m)]
        unarmed = Regions([(m.start, m.end) for m in wanted]) - self._armed.regions
        fresh = [cut(m, part.start, part.end) for m in wanted for part in unarmed.clip(m.start, m.end)]
        if self._arm_late(fresh, journal):
            self._seen = mappings

    def _arm_late(self, pieces: Sequence[Mapping], journal: "_Journal") -> bool:
        """Arm memory found by a collect; what it holds already is assumed to be written since it was mapped.

        :returns: whether all is settled; not if a mapping was changing just then.
        """
        settled = True
        for piece in pieces:
            # Before protecting: the marker on an empty page reads as swapped.
            filled = self._scanner.scan(piece.start, piece.end, _FILLED).regions if piece.anonymous else _NONE
            journal.assumed.append(filled)
            refused = self._arm_pieces([piece])
            if not refused:
                journal.news.append(BlindSpot(piece.start, piece.end, BlindReason.MAPPED_LATE, piece.label))
                self._late_bytes += piece.nbytes
                if piece.anonymous:
                    # Stored to between that look and the protection.
                    journal.assumed.append(self._scanner.scan(piece.start, piece.end, _OWN).regions)
            elif refused[0].reason is BlindReason.MAPPED_LATE:
                journal.news += refused
                settled = False
            else:
                self._watch(self._watched - Regions([(piece.start, piece.end)]))
        return settled

    def _arm_pieces(self, pieces: Sequence[Mapping]) -> list[BlindSpot]:
        """Register and protect; returns the blind spots of what is not armed then."""
        unarmed: list[BlindSpot] = []
        for piece in pieces:
            spot = self._try_arm(piece)
            if spot is None:
                self._armed.add([piece])
            else:
                unarmed.append(spot)
                if spot.reason is not BlindReason.MAPPED_LATE:
                    self._armed.refuse(piece, spot)
        return unarmed

    def _try_arm(self, piece: Mapping) -> BlindSpot | None:
        table_bytes = piece.nbytes // piece.page_size * _TABLE_ENTRY_BYTES
        if not self._can_afford(table_bytes):
            detail = f"{table_bytes} bytes of page tables for {piece.label}"
            return BlindSpot(piece.start, piece.end, BlindReason.TOO_SPARSE, detail)
        try:
            self._protection.register(piece.start, piece.end)
            self._protection.protect(piece.start, piece.end)
        except RangeNotTrackable as error:
            return BlindSpot(piece.start, piece.end, BlindReason.REFUSED, error.reason)
        except RangeNotArmed:
            # Mapped anew between the two steps; the next collect finds it.
            self._protection.unregister(piece.start, piece.end)
            return BlindSpot(piece.start, piece.end, BlindReason.MAPPED_LATE, "it was changing while it was armed")
        self._table_bytes += table_bytes
        return None

    def _can_afford(self, table_bytes: int) -> bool:
        """Whether page tables for all that is armed, and for this, stay within what the target's host can spare."""
        total = self._table_bytes + table_bytes
        if total <= _NEGLIGIBLE_BYTES:
            return True
        if self._table_budget is None:
            self._table_budget = self._layout.table_budget_bytes()
        return total <= self._table_budget

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
