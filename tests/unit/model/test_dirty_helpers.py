"""The two helpers for address-space ranges: counts, bounds, what they leave out, and every interleaving."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, Quirks
from pagewatch.model.arch.format import DIRTY, LEAF, WRITE
from pagewatch.model.dirty_helpers import Bitmap
from pagewatch.model.invariants import check
from pagewatch.model.notifier import Event, SecondaryMmu
from pagewatch.model.tlb import flush_mm
from pagewatch.model.walk import for_each_leaf, seek
from pagewatch.steps import RMW, access
from pagewatch.vocab.errors import InvalidArgument
from support.modelled import PAGE


class Buffer:
    """A memfd of some pages, mapped once or twice."""

    def __init__(self, n_pages: int, *, quirks: Quirks | None = None, mappings: int = 1) -> None:
        self.kernel = Kernel(cpus=2, quirks=quirks)
        self.file = self.kernel.memfd(n_pages * PAGE)
        self.process = self.kernel.spawn()
        self.starts = [self.process.mmap(n_pages * PAGE, shared=True, file=self.file) for _ in range(mappings)]
        self.bitmap = Bitmap(n_pages)

    def store(self, page: int, *, cpu: int = 0, mapping: int = 0) -> None:
        self.process.store(self.starts[mapping] + page * PAGE, b"new", cpu=cpu)

    def clean(self, first: int, count: int, start: int = 0, end: int = 0, offset: int = 0) -> tuple[int, int, int]:
        return self.kernel.clean_record_shared_mapping_range(self.file, first, count, offset, self.bitmap, start, end)

    def flags(self, page: int, mapping: int = 0) -> int:
        spot = seek(self.process.mm, self.starts[mapping] + page * PAGE)
        return spot.fmt.flags(spot.entry) if spot.kind == LEAF else 0

    def dirty(self) -> set[int]:
        """Pages with a dirty leaf in the first mapping."""
        mm, start = self.process.mm, self.starts[0]
        leaves = for_each_leaf(mm, start, start + len(self.bitmap) * PAGE)
        return {(leaf.start - start) // PAGE for leaf in leaves if leaf.spot.fmt.flags(leaf.spot.entry) & DIRTY}


def test_write_protecting_counts_what_changed_and_leaves_dirty_bits() -> None:
    buffer = Buffer(4)
    buffer.store(1)
    buffer.store(2)
    assert buffer.kernel.wp_shared_mapping_range(buffer.file, 0, 4) == 2
    assert buffer.kernel.wp_shared_mapping_range(buffer.file, 0, 4) == 0
    assert buffer.dirty() == {1, 2}
    assert not buffer.flags(1) & WRITE
    check(buffer.kernel.machine)


def test_cleaning_records_and_counts_a_page_once_for_each_mapping() -> None:
    buffer = Buffer(8, mappings=2)
    buffer.store(3)
    buffer.store(3, mapping=1)
    buffer.store(5)
    assert buffer.clean(0, 8) == (3, 3, 6)
    assert buffer.bitmap.indexes() == [3, 5]
    assert buffer.dirty() == set()
    assert buffer.flags(3) & WRITE
    check(buffer.kernel.machine)


def test_bounds_that_were_empty_come_back_as_count_and_zero() -> None:
    buffer = Buffer(8)
    assert buffer.clean(2, 5, start=7, end=7) == (0, 5, 0)


def test_bounds_are_widened_and_never_narrowed() -> None:
    buffer = Buffer(8)
    buffer.store(6)
    assert buffer.clean(0, 8, start=2, end=3) == (1, 2, 7)
    assert buffer.clean(0, 8, start=2, end=7) == (0, 2, 7)


def test_a_seeded_start_may_lie_below_the_first_bit() -> None:
    buffer = Buffer(8)
    buffer.store(6)
    assert buffer.clean(5, 2, offset=1) == (1, 2, 6)
    assert buffer.bitmap.indexes() == [5]


def test_bits_are_only_added() -> None:
    buffer = Buffer(4)
    buffer.bitmap[0] = True
    buffer.store(2)
    buffer.clean(0, 4)
    assert buffer.bitmap.indexes() == [0, 2]


@pytest.mark.parametrize("bits", [[False] * 4, bytearray(4)])
def test_any_sequence_with_an_item_for_each_page_can_record(bits: list[bool] | bytearray) -> None:
    buffer = Buffer(4)
    buffer.store(1)
    buffer.kernel.clean_record_shared_mapping_range(buffer.file, 0, 4, 0, bits, 0, 0)
    assert list(bits) == [0, 1, 0, 0]


def test_a_range_before_the_bitmap_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="page 0 lies before the bitmap"):
        Buffer(4).clean(0, 1, offset=2)


def test_private_and_read_only_file_mappings_are_left_alone() -> None:
    buffer = Buffer(2)
    private = buffer.process.mmap(2 * PAGE, file=buffer.file)
    buffer.process.store(private, b"x")
    buffer.store(0)
    assert buffer.clean(0, 2)[0] == 1
    spot = seek(buffer.process.mm, private)
    assert spot.fmt.flags(spot.entry) & (DIRTY | WRITE) == DIRTY | WRITE


def test_each_mapping_is_one_bracket_of_page_protection() -> None:
    buffer = Buffer(4, mappings=2)
    mmu = SecondaryMmu(buffer.process.mm)
    buffer.kernel.wp_shared_mapping_range(buffer.file, 1, 2)
    assert mmu.events == [(Event.PROTECTION_PAGE, start + PAGE, start + 3 * PAGE) for start in buffer.starts]


@settings(max_examples=60, deadline=None)
@given(
    stores=st.lists(st.integers(0, 15), max_size=12),
    first=st.integers(0, 15),
    count=st.integers(0, 16),
    bounds=st.tuples(st.integers(0, 16), st.integers(0, 16)),
)
def test_cleaning_agrees_with_a_set_of_page_numbers(
    stores: list[int], first: int, count: int, bounds: tuple[int, int]
) -> None:
    buffer = Buffer(16)
    for page in stores:
        buffer.store(page)
    inside = set(stores) & set(range(first, first + count))
    start, end = bounds if bounds[0] < bounds[1] else (count, 0)
    expected = (len(inside), min([start, *inside]), max([end, *(page + 1 for page in inside)]))
    assert buffer.clean(first, count, *bounds) == expected
    assert set(buffer.bitmap.indexes()) == inside
    assert buffer.dirty() == set(stores) - inside


class Consumer(Buffer):
    """One page, cleaned and then copied by a driver, while CPU 1 stores."""

    def __init__(self, quirks: Quirks) -> None:
        super().__init__(1, quirks=quirks)
        self.store(0)
        self.process.store(self.starts[0], b"old", cpu=1)
        self.kept = b""

    def collect(self) -> None:
        """Clean, then keep the content of what is recorded."""
        self.clean(0, 1)
        if self.bitmap[0]:
            self.bitmap[0] = False
            self.kept = self.file.read(0, 3)

    def collect_and_flush_late(self) -> None:
        self.collect()
        flush_mm(self.process.mm)

    def lost(self) -> bool:
        """Whether the page holds what was neither kept nor is recorded or dirty."""
        current = self.file.read(0, 3)
        return self.kept != current and not self.bitmap[0] and not self.dirty()


C = TypeVar("C", bound=Consumer)


def outcomes(scene: type[C], quirks: Quirks, *collectors: Callable[[C], None]) -> Iterator[bool]:
    """Whether a store of CPU 1 was lost, for every trace of it and the collectors."""
    made: list[C] = []

    def build() -> list[Callable[[], None]]:
        consumer = scene(quirks)
        made.append(consumer)
        return [
            *[lambda run=run: run(consumer) for run in collectors],
            lambda: consumer.store(0, cpu=1),
        ]

    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        yield made[-1].lost()


def test_flushing_before_return_never_loses_a_store() -> None:
    lost = list(outcomes(Consumer, Quirks(), Consumer.collect))
    assert len(lost) > 1
    assert not any(lost)


def test_flushing_after_the_content_was_taken_loses_stores_in_some_interleavings() -> None:
    lost = list(outcomes(Consumer, Quirks(dirty_helpers_skip_flush=True), Consumer.collect_and_flush_late))
    assert any(lost)
    assert not all(lost)


class SecondCaller(Consumer):
    """Another caller stands between change and flush: the entry is clean, recorded, and not flushed yet."""

    def __init__(self, quirks: Quirks) -> None:
        super().__init__(quirks)
        mm = self.process.mm
        spot = seek(mm, self.starts[0])
        spot.table.write(spot.slot, spot.fmt.mkclean(spot.entry), "first caller: clean")
        self.bitmap[0] = True
        mm.pending_flushes += 1

    def finish_first(self) -> None:
        flush_mm(self.process.mm)
        access(("pending flushes", self.process.mm.id), RMW, "first caller: flushed")
        self.process.mm.pending_flushes -= 1


def test_a_second_caller_loses_nothing_because_it_flushes_too() -> None:
    lost = list(outcomes(SecondCaller, Quirks(), SecondCaller.finish_first, SecondCaller.collect))
    assert len(lost) > 1
    assert not any(lost)


def test_without_a_look_at_pending_flushes_the_second_caller_loses_stores() -> None:
    quirks = Quirks(dirty_helpers_ignore_nested_flush=True)
    lost = list(outcomes(SecondCaller, quirks, SecondCaller.finish_first, SecondCaller.collect))
    assert any(lost)
    assert not all(lost)


class FirstStore(Consumer):
    """As above, but the page is clean and CPU 1 has no more than a clean translation of it."""

    def __init__(self, quirks: Quirks) -> None:
        super().__init__(quirks)
        self.clean(0, 1)
        self.bitmap[0] = False
        self.kept = self.file.read(0, 3)
        self.process.load(self.starts[0], 1, cpu=1)

    def protect_and_collect(self) -> None:
        self.kernel.wp_shared_mapping_range(self.file, 0, 1)
        self.collect()


def test_write_protecting_in_one_step_keeps_the_dirty_bit_of_a_racing_store() -> None:
    assert not any(outcomes(FirstStore, Quirks(), FirstStore.protect_and_collect))


def test_write_protecting_in_two_steps_overwrites_it_in_some_interleavings() -> None:
    quirks = Quirks(dirty_helpers_update_in_two_steps=True)
    lost = list(outcomes(FirstStore, quirks, FirstStore.protect_and_collect))
    assert any(lost)
    assert not all(lost)
