"""The driver's policy: when it changes its way of noticing stores, and that it notices every one."""

from collections.abc import Callable, Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel, Quirks
from pagewatch.model.driver_policy import DriverPolicy, Method
from support.modelled import PAGE

SMALL, LARGE = 511, 512


class Device:
    """A buffer that begins at page 3 of its device's file, mapped by one process."""

    def __init__(self, n_pages: int, quirks: Quirks | None = None) -> None:
        self.kernel = Kernel(cpus=2, quirks=quirks)
        self.file = self.kernel.memfd((n_pages + 3) * PAGE)
        self.process = self.kernel.spawn()
        self.start = self.process.mmap(n_pages * PAGE, shared=True, file=self.file, offset=3 * PAGE)
        self.policy = DriverPolicy(self.file, 3, n_pages)

    def store(self, *pages: int) -> None:
        for page in pages:
            self.process.store(self.start + page * PAGE, b"x")

    def collect(self) -> list[int]:
        return self.policy.collect()


def test_a_buffer_of_one_table_or_more_begins_with_faults() -> None:
    assert Device(SMALL).policy.method is Method.PAGETABLE
    assert Device(LARGE).policy.method is Method.MKWRITE


def test_the_third_idle_scan_in_a_row_turns_to_faults() -> None:
    device = Device(20)
    device.policy.scan()
    device.policy.scan()
    device.store(1)
    assert device.collect() == [1]
    for _ in range(2):
        device.policy.scan()
        assert device.policy.method is Method.PAGETABLE
    device.policy.scan()
    assert device.policy.method is Method.MKWRITE


def turned_to_faults(n_pages: int) -> Device:
    device = Device(n_pages)
    while device.policy.method is Method.PAGETABLE:
        device.policy.scan()
    return device


def test_ten_percent_is_not_much_and_eleven_is() -> None:
    for n_written, method in ((10, Method.MKWRITE), (11, Method.PAGETABLE)):
        device = turned_to_faults(100)
        for _ in range(3):
            device.store(*range(n_written))
            assert device.collect() == list(range(n_written))
        assert device.policy.method is method


def test_a_scan_without_bounds_does_nothing_and_keeps_the_count() -> None:
    device = turned_to_faults(10)
    device.store(*range(5))
    device.policy.scan()
    assert device.policy.change_count == 1
    device.policy.transfer(0, 10)
    device.policy.scan()
    assert device.policy.change_count == 1


def test_turning_to_dirty_bits_calls_all_within_the_bounds_dirty() -> None:
    device = turned_to_faults(10)
    for _ in range(2):
        device.store(2, 6)
        device.collect()
    device.store(2, 6)
    assert device.collect() == [2, 3, 4, 5, 6]
    assert device.policy.method is Method.PAGETABLE


def test_a_transfer_trims_the_bounds_only_at_an_edge() -> None:
    device = Device(10)
    device.store(1, 4, 8)
    device.policy.scan()
    policy = device.policy
    assert policy.transfer(3, 6) == [4]
    assert (policy.start, policy.end) == (1, 9)
    assert policy.transfer(0, 3) == [1]
    assert (policy.start, policy.end) == (3, 9)
    assert policy.transfer(6, 10) == [8]
    assert (policy.start, policy.end) == (3, 6)


def test_what_is_dirty_is_recorded_before_it_is_unmapped() -> None:
    device = Device(10)
    device.store(4)
    device.policy.unmap(0, 10)
    assert device.policy.transfer(0, 10) == [4]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 11), st.just("collect")), max_size=40))
def test_every_page_stored_to_is_transferred_by_the_next_collect(history: list[int | str]) -> None:
    device = Device(12)
    stored: set[int] = set()
    for step in [*history, "collect"]:
        if step == "collect":
            assert stored <= set(device.collect())
            stored = set()
        else:
            device.store(step)
            stored.add(step)


def missed_stores(quirks: Quirks) -> Iterator[bool]:
    """Whether a first store was missed, for every trace of it and a collect, when faults do the noticing."""
    made: list[tuple[Device, list[bytes]]] = []

    def build() -> list[Callable[[], None]]:
        device = Device(2, quirks)
        device.store(1)
        while device.policy.method is Method.PAGETABLE:
            device.policy.scan()
        device.policy.transfer(0, 2)
        device.store(1)
        device.process.load(device.start, 1, cpu=1)
        kept: list[bytes] = []
        made.append((device, kept))

        def collect() -> None:
            if 0 in device.collect():
                kept.append(device.file.read(3 * PAGE, 3))

        return [collect, lambda: device.process.store(device.start, b"new", cpu=1)]

    for run in enumerate_traces(build):
        assert not run.errors
        assert not run.deadlocked
        device, kept = made[-1]
        yield b"new" not in kept and 0 not in device.collect()


def test_no_first_store_is_missed_by_a_racing_collect() -> None:
    missed = list(missed_stores(Quirks()))
    assert len(missed) > 1
    assert not any(missed)


def test_a_hook_that_unlocks_before_the_entry_is_writable_misses_stores_in_some_interleavings() -> None:
    missed = list(missed_stores(Quirks(mkwrite_unlocks_early=True)))
    assert any(missed)
    assert not all(missed)
