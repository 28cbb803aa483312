"""The tracker's own logic, on the fake of the ports. The contract itself is in tests/conformance."""

import pytest

from pagewatch.testing.epoch_contract import spots_of, written_pages
from pagewatch.trackers.armed import ArmedMemory
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.errors import RangeNotArmed, RangeNotTrackable
from pagewatch.vocab.regions import Regions
from support.fake_world import PAGE, FakeWorld

_PAGES = 32


@pytest.fixture
def world():
    return FakeWorld()


def _area(world: FakeWorld, *, shared: bool = False) -> tuple[int, int]:
    start = world.map(_PAGES, shared=shared)
    return start, start + _PAGES * PAGE


def test_fixed_ranges_read_the_layout_once(world):
    start, end = _area(world)
    with world.track([(start, end)]) as tracker:
        for _ in range(10):
            tracker.collect()
        assert world.mappings_read == 1


def test_a_followed_layout_is_read_at_every_collect(world):
    _area(world)
    with world.track(None) as tracker:
        for _ in range(10):
            tracker.collect()
    assert world.mappings_read == 11


def test_a_refused_range_is_an_error_and_leaves_nothing_registered(world):
    start, end = _area(world)
    world.map(4, at=end, shared=True)
    world.refuse.add(end)
    with pytest.raises(RangeNotTrackable, match="refused by the fake"), world.track([(start, end + 4 * PAGE)]):
        pass
    assert not any(page.registered for page in world.pages.values())


def test_a_refused_mapping_of_a_program_is_a_lasting_blind_spot_until_it_goes(world):
    _area(world)
    odd = world.map(4, shared=True)
    world.refuse.add(odd)
    with world.track(None) as tracker:
        for _ in range(2):
            assert spots_of(tracker.collect(), BlindReason.REFUSED) == [(odd, odd + 4 * PAGE)]
        world.unmap(odd, 4)
        assert spots_of(tracker.collect(), BlindReason.REFUSED) == []


def test_a_mapping_that_would_cost_too_many_page_tables_is_named_and_not_armed(world, monkeypatch):
    monkeypatch.setattr("pagewatch.trackers.uffd_async._NEGLIGIBLE_BYTES", 0)
    world.budget_bytes = 8 * (_PAGES - 1)
    start, end = _area(world)
    with world.track(None) as tracker:
        assert spots_of(tracker.collect(), BlindReason.TOO_SPARSE) == [(start, end)]
        assert not any(page.registered for page in world.pages.values())


def test_the_cost_of_page_tables_is_limited_in_sum(world, monkeypatch):
    monkeypatch.setattr("pagewatch.trackers.uffd_async._NEGLIGIBLE_BYTES", 0)
    world.budget_bytes = 8 * (2 * _PAGES + 1)
    areas = [_area(world) for _ in range(3)]
    with world.track(None) as tracker:
        assert spots_of(tracker.collect(), BlindReason.TOO_SPARSE) == [areas[2]]


def test_page_tables_that_were_given_back_can_be_taken_again(world, monkeypatch):
    monkeypatch.setattr("pagewatch.trackers.uffd_async._NEGLIGIBLE_BYTES", 0)
    world.budget_bytes = 8 * 4 * _PAGES
    _area(world)
    with world.track(None) as tracker:
        for _ in range(20):
            start, end = _area(world)
            assert spots_of(tracker.collect(), BlindReason.MAPPED_LATE) == [(start, end)]
            world.unmap(start, _PAGES)
            tracker.collect()


def test_a_budget_that_grew_is_used(world, monkeypatch):
    monkeypatch.setattr("pagewatch.trackers.uffd_async._NEGLIGIBLE_BYTES", 0)
    world.budget_bytes = 8 * _PAGES
    _area(world)
    with world.track(None) as tracker:
        refused = _area(world)
        assert spots_of(tracker.collect(), BlindReason.TOO_SPARSE) == [refused]
        world.budget_bytes *= 4
        start, end = _area(world)
        assert spots_of(tracker.collect(), BlindReason.MAPPED_LATE) == [refused, (start, end)]


def test_memory_that_nobody_may_write_to_is_a_blind_spot_until_it_is_writable(world):
    _area(world)
    start, end = _area(world)
    world.let_write(start, _PAGES, writable=False)
    with world.track(None) as tracker:
        for _ in range(2):
            assert spots_of(tracker.collect(), BlindReason.NOT_WRITABLE) == [(start, end)]
        world.let_write(start, _PAGES, writable=True)
        epoch = tracker.collect()
        assert spots_of(epoch, BlindReason.NOT_WRITABLE) == []
        assert spots_of(epoch, BlindReason.MAPPED_LATE) == [(start, end)]


def test_armed_memory_that_nobody_may_write_to_any_more_is_no_blind_spot(world):
    start, _ = _area(world)
    with world.track(None) as tracker:
        world.let_write(start, _PAGES, writable=False)
        assert spots_of(tracker.collect(), BlindReason.NOT_WRITABLE) == []


def test_what_was_mapped_written_and_closed_between_two_collects_is_assumed(world):
    """As a linker does with what it relocates."""
    _area(world)
    with world.track(None) as tracker:
        start, end = _area(world)
        world.store(start + 2 * PAGE, b"relocated")
        world.let_write(start, _PAGES, writable=False)
        epoch = tracker.collect()
        assert written_pages(epoch, start, PAGE) == [2]
        assert epoch.assumed == epoch.regions
        assert spots_of(epoch, BlindReason.MAPPED_LATE) == [(start, end)]
        assert written_pages(tracker.collect(), start, PAGE) == []


def test_thousands_of_mappings_are_entered_into_the_books_at_once(world, monkeypatch):
    for _ in range(50):
        _area(world)
    entered = []
    plain = ArmedMemory.add
    monkeypatch.setattr(ArmedMemory, "add", lambda books, pieces: (entered.append(len(pieces)), plain(books, pieces)))
    with world.track(None) as tracker:
        for _ in range(30):
            _area(world)
        tracker.collect()
    assert entered == [50, 30]


def test_a_mapping_that_was_changing_while_it_was_armed_is_armed_by_the_next_collect(world):
    _, end = _area(world)
    with world.track(None) as tracker:
        late = world.map(4, at=end + 16 * PAGE)
        plain, world.protect = world.protect, _raise_not_armed
        assert spots_of(tracker.collect(), BlindReason.MAPPED_LATE) == [(late, late + 4 * PAGE)]
        assert not world.pages[late].registered
        world.protect = plain
        assert spots_of(tracker.collect(), BlindReason.MAPPED_LATE) == [(late, late + 4 * PAGE)]
        assert tracker.collect().blind_spots == ()


def test_a_mapping_that_was_changing_during_the_first_arming_is_armed_by_the_next_collect(world):
    start, end = _area(world)
    plain, world.protect = world.protect, _raise_not_armed
    with world.track(None) as tracker:
        world.protect = plain
        assert spots_of(tracker.collect(), BlindReason.MAPPED_LATE) == [(start, end)]
        world.store(start, b"x")
        assert written_pages(tracker.collect(), start, PAGE) == [0]


def test_memory_mapped_anew_that_was_changing_while_it_was_armed_is_armed_by_the_next_collect(world):
    start, _ = _area(world)
    with world.track(None) as tracker:
        world.map(_PAGES, at=start)  # in its own place: the list of mappings stays as it was
        plain, world.protect = world.protect, _raise_not_armed
        tracker.collect()
        world.protect = plain
        tracker.collect()
        world.store(start, b"x")
        assert written_pages(tracker.collect(), start, PAGE) == [0]


def test_memory_mapped_anew_is_armed_although_the_collect_that_found_it_was_interrupted(world):
    start, _ = _area(world)
    with world.track(None) as tracker:
        world.map(_PAGES, at=start)
        plain, world.register = world.register, _interrupt
        with pytest.raises(KeyboardInterrupt):
            tracker.collect()
        world.register = plain
        tracker.collect()
        world.store(start, b"x")
        assert written_pages(tracker.collect(), start, PAGE) == [0]


def _interrupt(start: int, end: int) -> None:
    raise KeyboardInterrupt


def _raise_not_armed(start: int, end: int) -> None:
    raise RangeNotArmed(Regions([(start, end)]))


def test_a_refusal_is_forgotten_when_the_memory_can_be_armed(world):
    _, end = _area(world)
    odd = world.map(4, at=end + 16 * PAGE)
    world.refuse.add(odd)
    with world.track(None) as tracker:
        assert spots_of(tracker.collect(), BlindReason.REFUSED) == [(odd, odd + 4 * PAGE)]
        world.refuse.clear()
        world.map(5, at=odd)
        assert spots_of(tracker.collect(), BlindReason.REFUSED) == []


def test_a_refusal_of_the_moment_does_not_last(world):
    _, end = _area(world)
    odd = world.map(4, at=end + 16 * PAGE)
    world.refuse.add(odd)  # it was unmapped just then, or another tracker's
    with world.track(None) as tracker:
        assert spots_of(tracker.collect(), BlindReason.REFUSED) == [(odd, odd + 4 * PAGE)]
        world.store(odd + PAGE, b"x")
        world.refuse.clear()
        epoch = _collect_until(tracker, lambda epoch: not spots_of(epoch, BlindReason.REFUSED))
        assert spots_of(epoch, BlindReason.MAPPED_LATE) == [(odd, odd + 4 * PAGE)]
        assert epoch.regions == epoch.assumed == Regions([(odd + PAGE, odd + 2 * PAGE)])
        world.store(odd, b"x")
        assert written_pages(tracker.collect(), odd, PAGE) == [0]


def test_what_stays_refused_is_asked_for_ever_more_seldom_and_never_assumed(world):
    _, end = _area(world)
    odd = world.map(4, at=end + 16 * PAGE)
    world.refuse.add(odd)
    asked = []
    plain = world.register
    world.register = lambda start, end: (asked.append(start), plain(start, end))
    with world.track(None) as tracker:
        world.store(odd, b"x")
        epochs = [tracker.collect() for _ in range(100)]
    assert 4 <= asked.count(odd) <= 10
    assert not any(epoch.regions for epoch in epochs)


def _collect_until(tracker, holds, limit=5):
    return next(epoch for epoch in (tracker.collect() for _ in range(limit)) if holds(epoch))


def test_pins_in_armed_memory_are_blind_spots_and_others_are_not(world):
    start, end = _area(world)
    world.pinned = (
        BlindSpot(start + 4 * PAGE, start + 6 * PAGE, BlindReason.PINNED, "io_uring registered buffer"),
        BlindSpot(end + PAGE, end + 2 * PAGE, BlindReason.PINNED),
    )
    with world.track([(start, end)]) as tracker:
        assert spots_of(tracker.collect(), BlindReason.PINNED) == [(start + 4 * PAGE, start + 6 * PAGE)]


def test_what_a_program_pins_later_is_a_blind_spot_as_long_as_it_is_pinned(world):
    start, _ = _area(world)
    with world.track(None) as tracker:
        assert tracker.collect().blind_spots == ()
        world.pinned = (BlindSpot(start, start + PAGE, BlindReason.PINNED),)
        assert spots_of(tracker.collect(), BlindReason.PINNED) == [(start, start + PAGE)]
        world.pinned = ()
        assert tracker.collect().blind_spots == ()


def test_a_pin_of_unknown_place_concerns_all_armed_memory(world):
    start, end = _area(world)
    world.pinned = (BlindSpot(0, 1 << 56, BlindReason.PINNED, "4096 bytes"),)
    with world.track([(start, end)], strict=True) as tracker:
        epoch = tracker.collect()
        assert spots_of(epoch, BlindReason.PINNED) == [(start, end)]
        assert epoch.assumed.pages == _PAGES


def test_known_losses_are_named_for_all_armed_memory(world):
    start, end = _area(world)
    with world.track([(start, end)], known_losses=(BlindReason.ZAP_UNSEEN,)) as tracker:
        assert spots_of(tracker.collect(), BlindReason.ZAP_UNSEEN) == [(start, end)]


def test_memory_swapped_for_what_cannot_be_armed_becomes_a_refused_blind_spot(world):
    start, end = _area(world)
    with world.track([(start, end)]) as tracker:
        world.map(4, at=start + 8 * PAGE)
        world.refuse.add(start + 8 * PAGE)
        world.store(start, b"x")
        world.store(end - 1, b"x")
        epoch = tracker.collect()
        assert spots_of(epoch, BlindReason.REFUSED) == [(start + 8 * PAGE, start + 12 * PAGE)]
        assert written_pages(epoch, start, PAGE) == [0, _PAGES - 1]


def test_fixed_ranges_do_not_look_again_and_again_at_what_cannot_be_armed(world):
    start, end = _area(world)
    with world.track([(start, end)]) as tracker:
        world.map(4, at=start)
        world.refuse.add(start)
        tracker.collect()
        before = world.mappings_read
        for _ in range(3):
            assert spots_of(tracker.collect(), BlindReason.REFUSED) == [(start, start + 4 * PAGE)]
        assert world.mappings_read == before


def test_a_store_just_before_unarmed_memory_is_met_again_is_reported(world):
    start, end = _area(world)
    with world.track([(start, end)]) as tracker:
        world.map(4, at=start + 8 * PAGE)
        plain = world.mappings
        # Between the scan of everything and those of the single mappings.
        world.mappings = lambda: (world.store(start, b"x"), plain())[1]
        epochs = [tracker.collect(), tracker.collect()]
        assert sum(written_pages(epoch, start, PAGE).count(0) for epoch in epochs) == 1


def test_arming_afresh_lets_go_of_what_is_not_wanted_any_more(world):
    start, _ = _area(world)
    world.map(4)
    with world.track(None) as tracker:
        world.let_write(start, _PAGES, writable=False)
        tracker.arm()
        assert not any(world.pages[start + page * PAGE].registered for page in range(_PAGES))


def test_a_blind_spot_of_a_mapping_ends_with_it(world):
    start, end = _area(world, shared=True)
    with world.track([(start, end)]) as tracker:
        world.map(8, at=start)
        tracker.collect()
        assert spots_of(tracker.collect(), BlindReason.FILE_CONTENT) == [(start + 8 * PAGE, end)]


def test_what_was_not_huge_when_armed_is_not_collapsed(world):
    start = world.map(64)
    with world.track([(start, start + 64 * PAGE)], collapse_on_close=True):
        pass
    assert world.collapsed == []


def test_late_bytes_are_counted(world):
    _, end = _area(world)
    with world.track(None) as tracker:
        world.map(4, at=end + 16 * PAGE)
        tracker.collect()
        assert tracker.statistics().armed_late_bytes == 4 * PAGE
        assert tracker.statistics().armed_bytes == (_PAGES + 4) * PAGE
