"""The epoch contract, as tests. Subclass :class:`EpochContract` and provide a ``world`` fixture."""

import random

from pagewatch.testing.world import TrackedWorld
from pagewatch.trackers.base import Epoch, Tracker
from pagewatch.vocab.blindspots import BlindReason
from pagewatch.vocab.errors import TrackerClosed

_PAGES = 64


def written_pages(epoch: Epoch, start: int, page_size: int) -> list[int]:
    """Page numbers, relative to ``start``, that an epoch reports."""
    return [(int(address) - start) // page_size for address in epoch.regions.page_addresses()]


def spots_of(epoch: Epoch, reason: BlindReason) -> list[tuple[int, int]]:
    """The ranges that an epoch names for a reason."""
    return [(spot.start, spot.end) for spot in epoch.blind_spots if spot.reason is reason]


class EpochContract:
    """What every exact tracker owes for memory that it was given by address."""

    def area(self, world: TrackedWorld, *, populate: bool = True, shared: bool = False) -> int:
        """A fresh area of 64 pages."""
        start = world.map(_PAGES, shared=shared)
        if populate:
            for page in range(_PAGES):
                world.store(start + page * world.page_size, b"old")
        return start

    def tracker(self, world: TrackedWorld, start: int, *, strict: bool = False) -> Tracker:
        """A tracker of an area made by :meth:`area`."""
        return world.track([(start, start + _PAGES * world.page_size)], strict=strict)

    def test_first_epoch_is_empty_when_nothing_was_written(self, world: TrackedWorld) -> None:
        """Arming itself is no write, and neither is what came before."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            assert tracker.collect().regions.pages == 0

    def test_each_written_page_is_in_the_next_epoch_and_in_no_other(self, world: TrackedWorld) -> None:
        """Exact, page by page, and gone once reported."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            for page in (0, 7, 8, 63):
                world.store(start + page * world.page_size + 5, b"new")
            assert written_pages(tracker.collect(), start, world.page_size) == [0, 7, 8, 63]
            assert written_pages(tracker.collect(), start, world.page_size) == []

    def test_a_page_written_again_is_reported_again(self, world: TrackedWorld) -> None:
        """Collecting re-arms."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            for _ in range(3):
                world.store(start + 9 * world.page_size, b"again")
                assert written_pages(tracker.collect(), start, world.page_size) == [9]

    def test_reading_is_no_write(self, world: TrackedWorld) -> None:
        """Neither of populated nor of unpopulated memory."""
        start = world.map(_PAGES)
        world.store(start, b"here")
        with self.tracker(world, start) as tracker:
            assert world.load(start, 4) == b"here"
            assert world.load(start + 9 * world.page_size, 4) == bytes(4)
            assert tracker.collect().regions.pages == 0

    def test_first_touch_of_unpopulated_memory_is_a_write(self, world: TrackedWorld) -> None:
        """Protection covers pages that do not exist yet."""
        start = self.area(world, populate=False)
        with self.tracker(world, start) as tracker:
            world.store(start + 40 * world.page_size, b"first")
            assert written_pages(tracker.collect(), start, world.page_size) == [40]

    def test_a_write_after_a_read_of_unpopulated_memory_is_seen(self, world: TrackedWorld) -> None:
        """The zero page that the read mapped is protected, too."""
        start = self.area(world, populate=False)
        with self.tracker(world, start) as tracker:
            world.load(start + 3 * world.page_size, 1)
            tracker.collect()
            world.store(start + 3 * world.page_size, b"x")
            assert written_pages(tracker.collect(), start, world.page_size) == [3]

    def test_a_store_across_a_page_border_marks_both_pages(self, world: TrackedWorld) -> None:
        """The unit is the page, not the store."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            world.store(start + 5 * world.page_size - 2, b"abcd")
            assert written_pages(tracker.collect(), start, world.page_size) == [4, 5]

    def test_dropped_private_memory_reads_as_written(self, world: TrackedWorld) -> None:
        """MADV_DONTNEED changes the bytes, so a copy of them must be renewed."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            world.drop(start + 10 * world.page_size, 3)
            assert written_pages(tracker.collect(), start, world.page_size) == [10, 11, 12]

    def test_writes_after_a_drop_are_seen(self, world: TrackedWorld) -> None:
        """The dropped page is armed again by the collect that reported it."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            world.drop(start + 10 * world.page_size, 3)
            tracker.collect()
            world.store(start + 11 * world.page_size, b"x")
            assert written_pages(tracker.collect(), start, world.page_size) == [11]

    def test_memory_beside_the_ranges_is_never_reported(self, world: TrackedWorld) -> None:
        """Pages that were not armed are not called written."""
        start = self.area(world)
        page = world.page_size
        with world.track([(start + 10 * page, start + 20 * page)]) as tracker:
            for number in (9, 10, 19, 20):
                world.store(start + number * page, b"x")
            assert written_pages(tracker.collect(), start, page) == [10, 19]

    def test_several_ranges_are_tracked_at_once(self, world: TrackedWorld) -> None:
        """Each exactly, and what lies between them not at all."""
        start = self.area(world)
        page = world.page_size
        with world.track([(start, start + 4 * page), (start + 8 * page, start + 12 * page)]) as tracker:
            for number in range(0, 16, 3):
                world.store(start + number * page, b"x")
            assert written_pages(tracker.collect(), start, page) == [0, 3, 9]

    def test_shared_memory_is_tracked_and_its_other_doors_are_named(self, world: TrackedWorld) -> None:
        """Writes through this mapping are exact; other ways to the same bytes are a blind spot."""
        start = self.area(world, shared=True)
        with self.tracker(world, start) as tracker:
            world.store(start + 6 * world.page_size, b"x")
            epoch = tracker.collect()
            assert written_pages(epoch, start, world.page_size) == [6]
            assert spots_of(epoch, BlindReason.FILE_CONTENT) == [(start, start + _PAGES * world.page_size)]

    def test_private_memory_has_no_blind_spot(self, world: TrackedWorld) -> None:
        """Nothing is named without a reason."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            assert tracker.collect().blind_spots == ()

    def test_strict_reports_blind_spots_as_assumed(self, world: TrackedWorld) -> None:
        """What cannot be seen is then reported, and told apart from what was seen."""
        start = self.area(world, shared=True)
        with self.tracker(world, start, strict=True) as tracker:
            world.store(start + 6 * world.page_size, b"x")
            epoch = tracker.collect()
            assert written_pages(epoch, start, world.page_size) == list(range(_PAGES))
            assert epoch.assumed.pages == _PAGES - 1

    def test_memory_mapped_over_armed_memory_is_armed_and_named(self, world: TrackedWorld) -> None:
        """The time before it was found is a blind spot; from then on it is exact."""
        start = self.area(world)
        page = world.page_size
        with self.tracker(world, start) as tracker:
            world.store(start, b"x")
            world.map(8, at=start + 16 * page)
            epoch = tracker.collect()
            assert written_pages(epoch, start, page) == [0]
            assert spots_of(epoch, BlindReason.MAPPED_LATE) == [(start + 16 * page, start + 24 * page)]
            world.store(start + 17 * page, b"x")
            world.store(start + 40 * page, b"x")
            epoch = tracker.collect()
            assert written_pages(epoch, start, page) == [17, 40]
            assert epoch.blind_spots == ()

    def test_a_hole_in_the_ranges_is_no_error(self, world: TrackedWorld) -> None:
        """The rest stays exact."""
        start = self.area(world)
        page = world.page_size
        with self.tracker(world, start) as tracker:
            world.unmap(start + 16 * page, 8)
            world.store(start + 40 * page, b"x")
            assert written_pages(tracker.collect(), start, page) == [40]

    def test_epochs_are_numbered_and_their_times_do_not_run_backwards(self, world: TrackedWorld) -> None:
        """From 0, on a monotonic clock."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            epochs = [tracker.collect() for _ in range(4)]
        assert [epoch.index for epoch in epochs] == [0, 1, 2, 3]
        times = [t for epoch in epochs for t in (epoch.started_ns, epoch.ended_ns)]
        assert times == sorted(times)

    def test_statistics_add_up(self, world: TrackedWorld) -> None:
        """Epochs, regions and armed bytes are what the epochs said."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            world.store(start, bytes(3 * world.page_size))
            world.store(start + 7 * world.page_size, b"x")
            reported = sum(len(tracker.collect().regions) for _ in range(2))
            statistics = tracker.statistics()
        assert (statistics.epochs, statistics.regions_reported) == (2, reported) == (2, 2)
        assert statistics.armed_bytes == _PAGES * world.page_size

    def test_a_closed_tracker_says_so(self, world: TrackedWorld) -> None:
        """Closing twice is no error; using it afterwards is."""
        start = self.area(world)
        tracker = self.tracker(world, start)
        with tracker:
            pass
        tracker.close()
        for use in (tracker.collect, tracker.arm):
            try:
                use()
            except TrackerClosed:
                continue
            raise AssertionError("a closed tracker was usable")

    def test_arming_again_starts_afresh(self, world: TrackedWorld) -> None:
        """What was written before counts no more, and epochs are numbered from 0."""
        start = self.area(world)
        with self.tracker(world, start) as tracker:
            tracker.collect()
            world.store(start, b"x")
            tracker.arm()
            world.store(start + world.page_size, b"x")
            epoch = tracker.collect()
        assert (epoch.index, written_pages(epoch, start, world.page_size)) == (0, [1])

    def test_a_new_tracker_can_follow_a_closed_one(self, world: TrackedWorld) -> None:
        """Closing leaves nothing behind that stands in the way."""
        start = self.area(world)
        for page in (1, 2):
            with self.tracker(world, start) as tracker:
                world.store(start + page * world.page_size, b"x")
                assert written_pages(tracker.collect(), start, world.page_size) == [page]

    def test_random_histories_agree_with_the_list_of_stores(self, world: TrackedWorld) -> None:
        """Stores, loads and drops in any order: each epoch is exactly the pages changed since the last."""
        start = self.area(world)
        page = world.page_size
        for seed in range(20):
            choose = random.Random(seed)
            changed: set[int] = set()
            with self.tracker(world, start) as tracker:
                for _ in range(60):
                    number, action = choose.randrange(_PAGES), choose.random()
                    if action < 0.55:
                        world.store(start + number * page + choose.randrange(page), b"s")
                        changed.add(number)
                    elif action < 0.7:
                        world.load(start + number * page, 8)
                    elif action < 0.8:
                        world.drop(start + number * page, 1)
                        changed.add(number)
                    else:
                        assert written_pages(tracker.collect(), start, page) == sorted(changed), f"seed {seed}"
                        changed.clear()
