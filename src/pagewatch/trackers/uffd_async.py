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

from pagewatch.ports import Clock, HugePages, Layout, Scanner, WriteProtection
from pagewatch.trackers.armed import ArmedMemory, ranges_of, table_bytes_of
from pagewatch.trackers.base import Collected, Tracker
from pagewatch.trackers.journal import Journal, united
from pagewatch.trackers.scope import Scope, cut, pieces_within
from pagewatch.vocab.addresses import PAGE_SIZE, page_ceil, page_floor
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import RangeNotArmed, RangeNotTrackable, TargetGone, TrackerClosed
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions, join

# Exactly this query takes the kernel's short path, which looks at nothing but the protection bit.
_WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)
_HUGE = Query.where("huge & !file", returned=Category(0))
# Private memory that holds something of its own; the zero page does not.
_FILLED = Query.where("!file & !pfnzero & (present | swapped)", returned=Category(0))
_OWN = Query.where("present & !file & !pfnzero", returned=Category(0))
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
        self._start_books()

    def _start_books(self) -> None:
        self._armed = ArmedMemory(self._known_losses)
        self._journal = Journal()
        self._seen: Sequence[Mapping] | None = None
        self._watch(_NONE)
        self._were_huge = _NONE
        self._late_bytes = 0
        self._table_budget = _NEGLIGIBLE_BYTES
        self._left_out = _NONE

    def _arm(self) -> None:
        self._disarm()
        self._start_books()
        mappings = self._layout.mappings()
        refused = list(self._arm_pieces(self._scope.wanted(mappings)).values())
        self._leave_out(mappings)
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
            self._settle_late(journal)
        else:
            # Delivered: an exception before the first scan must not bring it back.
            self._scanner.forget()
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

    def _collected(self, journal: Journal) -> Collected:
        regions = journal.written
        spots = journal.spots(self._armed.spots)
        assumed = journal.assumed
        if self._strict and spots:
            assumed = [*assumed, ranges_of(spots, self._armed.regions)]
        if not assumed:
            return Collected(regions, _NONE, spots)
        unwatched = united(assumed) - regions
        return Collected(regions | unwatched, unwatched, spots)

    def _forget_collected(self) -> None:
        self._journal = Journal()

    def _collect_span(self, start: int, end: int, journal: Journal) -> None:
        try:
            scan = self._scanner.scan(start, end, _WRITTEN, protect=True, require_armed=True)
        except RangeNotArmed as error:
            # Something was mapped over armed memory, or into a hole, since the last collect. In its own place it
            # leaves the layout as it was: whatever keeps it from being armed now, the next collect must look again.
            self._seen = None
            journal.overlapping = True
            if error.scan:
                journal.found.append(error.scan.regions)
        else:
            journal.found.append(scan.regions)
            return
        for piece in pieces_within(self._layout.mappings(), start, end):
            self._collect_piece(piece, journal)

    def _collect_piece(self, piece: Mapping, journal: Journal) -> None:
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

    def _follow_layout(self, journal: Journal) -> None:
        """Arm what was mapped since the last collect and forget what is gone; name both."""
        self._armed.set_pins(self._layout.pins())
        mappings = self._layout.mappings()
        retry = self._armed.retry_is_due()
        if mappings is self._seen and not retry:
            return
        # Only what is done is seen: after an exception the next collect looks again.
        self._seen = None
        mapped = Regions([(m.start, m.end) for m in mappings])
        gone = self._armed.regions - mapped
        if len(gone):
            journal.news += [BlindSpot(r.start, r.end, BlindReason.UNMAPPED) for r in gone]
            self._armed.drop(gone)
        self._armed.forget_refused(mapped)
        wanted = self._scope.wanted(mappings)
        if retry:
            self._try_again([m for m in wanted if self._armed.refused(m)], journal)
        wanted = [m for m in wanted if not self._armed.refused(m)]
        unarmed = Regions([(m.start, m.end) for m in wanted]) - self._armed.regions
        fresh = self._parts(wanted, unarmed)
        settled = self._arm_late(fresh, journal)
        self._look_at_left_out(self._leave_out(mappings), journal)
        if settled:
            self._seen = mappings

    def _leave_out(self, mappings: Sequence[Mapping]) -> Sequence[Mapping]:
        """Name what is in the scope and not armed, since nobody may write to it; returns what was not so before."""
        left_out = self._scope.left_out(mappings)
        pieces = self._parts(left_out, Regions([(m.start, m.end) for m in left_out]) - self._armed.regions)
        self._armed.leave_out(pieces)
        before, self._left_out = self._left_out, Regions([(piece.start, piece.end) for piece in pieces])
        return self._parts(pieces, self._left_out - before)

    def _look_at_left_out(self, pieces: Sequence[Mapping], journal: Journal) -> None:
        """What was mapped, written and closed to writing since the last collect, as a linker does."""
        for piece in pieces:
            if not piece.shared:
                journal.assumed.append(self._scanner.scan(piece.start, piece.end, _FILLED).regions)
            journal.news.append(BlindSpot(piece.start, piece.end, BlindReason.MAPPED_LATE, piece.label))

    @staticmethod
    def _parts(mappings: Sequence[Mapping], within: Regions) -> list[Mapping]:
        """What of the mappings lies in a set of pages."""
        if not len(within):
            return []
        return [cut(m, part.start, part.end) for m in mappings for part in within.clip(m.start, m.end)]

    def _arm_late(self, pieces: Sequence[Mapping], journal: Journal) -> bool:
        """Arm memory found by a collect; what it holds already is assumed to be written since it was mapped.

        :returns: whether all is settled; not if a mapping was changing just then.
        """
        for piece in pieces:
            # Before protecting: the marker on an empty page reads as swapped.
            if not piece.shared:
                journal.assumed.append(self._scanner.scan(piece.start, piece.end, _FILLED).regions)
        journal.late += pieces
        unarmed = self._arm_pieces(pieces)
        self._settle_late(journal)
        for piece, spot in unarmed.items():
            if spot.reason is BlindReason.MAPPED_LATE:
                journal.news.append(spot)
            else:
                self._watch(self._watched - Regions([(piece.start, piece.end)]))
        return not any(spot.reason is BlindReason.MAPPED_LATE for spot in unarmed.values())

    def _try_again(self, refused: Sequence[Mapping], journal: Journal) -> None:
        """Arm what can be by now. What stays refused is a blind spot and needs no assumption."""
        journal.late += refused
        self._arm_pieces(refused)
        self._settle_late(journal)

    def _settle_late(self, journal: Journal) -> None:
        """Name the late memory that could be armed, and take what was stored to it just before it was."""
        armed = self._armed.regions
        for piece in journal.late:
            if armed.clip(piece.start, piece.end).nbytes == piece.nbytes:
                if not piece.shared:
                    journal.assumed.append(self._scanner.scan(piece.start, piece.end, _OWN).regions)
                journal.news.append(BlindSpot(piece.start, piece.end, BlindReason.MAPPED_LATE, piece.label))
                self._late_bytes += piece.nbytes
        journal.late.clear()

    def _arm_pieces(self, pieces: Sequence[Mapping]) -> dict[Mapping, BlindSpot]:
        """Register and protect; returns the blind spots of what is not armed then."""
        armed: list[Mapping] = []
        unarmed: dict[Mapping, BlindSpot] = {}
        table_bytes = self._armed.table_bytes
        try:
            for piece in pieces:
                needed = table_bytes_of(piece.nbytes) if piece.page_size == PAGE_SIZE else 0
                spot = self._try_arm(piece, table_bytes, needed)
                if spot is None:
                    armed.append(piece)
                    table_bytes += needed
                else:
                    unarmed[piece] = spot
        finally:
            # One entry for all: the books are gone through once.
            self._armed.add(armed)
        for piece, spot in unarmed.items():
            if spot.reason is not BlindReason.MAPPED_LATE:
                self._armed.refuse(piece, spot)
        return unarmed

    def _try_arm(self, piece: Mapping, table_bytes: int, needed: int) -> BlindSpot | None:
        """:param table_bytes: page tables of all that is armed by now; ``needed``: those of the piece."""
        if not self._can_afford(table_bytes + needed):
            detail = f"{needed} bytes of page tables for {piece.label}"
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
        return None

    def _can_afford(self, table_bytes: int) -> bool:
        """Whether so much page-table memory stays within what the target's host can spare."""
        if table_bytes > self._table_budget:
            # Asked again each time: what was taken may have been given back.
            self._table_budget = max(_NEGLIGIBLE_BYTES, self._layout.table_budget_bytes())
        return table_bytes <= self._table_budget

    def _disarm(self) -> None:
        for start, end in self._armed.spans:
            self._protection.unregister(start, end)

    def _close(self) -> None:
        try:
            self._disarm()
            if self._collapse_on_close:
                self._collapse()
        except (TargetGone, TrackerClosed):
            # The memory is gone, or the process was detached: the kernel has lifted everything.
            self._scanner.forget()
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
