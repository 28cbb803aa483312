"""What trackers of a whole address space owe as it changes. Subclass :class:`LayoutContract`."""

from pagewatch.testing.epoch_contract import spots_of, written_pages
from pagewatch.testing.world import TrackedWorld
from pagewatch.trackers.base import Epoch
from pagewatch.vocab.blindspots import BlindReason

_PAGES = 32


class LayoutContract:
    """Trackers made by ``world.track(None)``. The program may have other memory that changes meanwhile."""

    @staticmethod
    def inside(epoch: Epoch, start: int, page_size: int) -> list[int]:
        """Written pages of the area, relative to its start."""
        return [page for page in written_pages(epoch, start, page_size) if 0 <= page < _PAGES]

    def test_memory_that_is_there_is_exact(self, world: TrackedWorld) -> None:
        """All that the program can write is armed."""
        start = world.map(_PAGES)
        page = world.page_size
        with world.track(None) as tracker:
            tracker.collect()
            world.store(start + 3 * page, b"x")
            assert self.inside(tracker.collect(), start, page) == [3]
            assert self.inside(tracker.collect(), start, page) == []

    def test_memory_mapped_later_is_found_named_and_then_exact(self, world: TrackedWorld) -> None:
        """Its time before the collect is a blind spot; what it holds already is assumed to be written."""
        page = world.page_size
        with world.track(None) as tracker:
            start = world.map(_PAGES)
            world.store(start + 4 * page, b"unseen")
            epoch = tracker.collect()
            assert any(a <= start and start + _PAGES * page <= b for a, b in spots_of(epoch, BlindReason.MAPPED_LATE))
            assert 4 in self.inside(epoch, start, page)
            assert len(epoch.assumed.clip(start + 4 * page, start + 5 * page)) == 1
            world.store(start + 9 * page, b"x")
            epoch = tracker.collect()
            assert self.inside(epoch, start, page) == [9]
            assert spots_of(epoch, BlindReason.MAPPED_LATE) == []

    def test_memory_unmapped_is_named_once(self, world: TrackedWorld) -> None:
        """Writes made to it before it went are not known."""
        page = world.page_size
        start = world.map(_PAGES)
        with world.track(None) as tracker:
            world.unmap(start, _PAGES)
            gone = spots_of(tracker.collect(), BlindReason.UNMAPPED)
            assert any(a <= start and start + _PAGES * page <= b for a, b in gone)
            assert spots_of(tracker.collect(), BlindReason.UNMAPPED) == []

    def test_a_mapping_replaced_in_place_is_named_and_then_exact(self, world: TrackedWorld) -> None:
        """The layout looks the same, but the new memory was never armed."""
        page = world.page_size
        start = world.map(_PAGES)
        with world.track(None) as tracker:
            tracker.collect()
            world.map(_PAGES, at=start)
            epoch = tracker.collect()
            late = spots_of(epoch, BlindReason.MAPPED_LATE)
            assert any(a <= start and start + _PAGES * page <= b for a, b in late)
            world.store(start + 2 * page, b"x")
            assert self.inside(tracker.collect(), start, page) == [2]
