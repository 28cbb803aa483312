"""``WriteWatch``: what Microsoft documents of GetWriteWatch and ResetWriteWatch, on the running kernel."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

import pagewatch
from pagewatch.linux import pagemap
from pagewatch.vocab.addresses import PAGE_SIZE
from support import libc
from support.needs import requires
from support.own_world import own_world

pytestmark = requires("uffd_wp_async", "pagemap_scan")

_PAGES = 16


class Watched:
    """Populated memory of this process, under watch."""

    def __init__(self, world) -> None:
        self.world = world
        self.start = world.map(_PAGES)
        self.end = self.start + _PAGES * PAGE_SIZE
        self.store(*range(_PAGES))
        self.watch = pagewatch.WriteWatch((self.start, self.end))

    def at(self, page: int) -> int:
        return self.start + page * PAGE_SIZE

    def store(self, *pages: int) -> None:
        for page in pages:
            self.world.store(self.at(page), b"x")

    def get(self, *bounds, **options) -> list[int]:
        return [(int(address) - self.start) // PAGE_SIZE for address in self.watch.get(*bounds, **options)]


@pytest.fixture
def memory() -> Iterator[Watched]:
    with own_world() as world:
        watched = Watched(world)
        with watched.watch:
            yield watched


def test_addresses_are_absolute_and_ascending(memory):
    memory.store(9, 2, 3)
    assert memory.watch.get().tolist() == [memory.at(2), memory.at(3), memory.at(9)]
    assert memory.watch.granularity == PAGE_SIZE


def test_looking_changes_nothing(memory):
    memory.store(1, 5)
    assert memory.get() == memory.get() == [1, 5]


def test_reset_resets_just_the_pages_of_the_answer(memory):
    memory.store(1, 5, 7)
    assert memory.get(reset=True, max_count=2) == [1, 5]
    memory.store(1)
    assert memory.get() == [1, 7]


def test_part_of_the_range_is_looked_at_and_reset_alone(memory):
    memory.store(1, 5, 7)
    part = memory.at(4), memory.at(6)
    assert memory.get(*part) == memory.get(*part, reset=True) == [5]
    assert memory.get() == [1, 7]
    memory.watch.reset(memory.at(7))
    assert memory.get() == [1]
    memory.watch.reset()
    assert memory.get() == []


@pytest.mark.parametrize(("first_page", "last_page"), [(-1, 4), (4, _PAGES + 1), (4, 4), (5, 4)])
def test_a_range_outside_or_empty_is_an_error_and_changes_nothing(memory, first_page, last_page):
    memory.store(4)
    bounds = memory.at(first_page), memory.at(last_page)
    for call in (memory.watch.get, memory.watch.reset):
        with pytest.raises(pagewatch.InvalidArgument, match="empty or not within what is watched"):
            call(*bounds)
    assert memory.get() == [4]


@pytest.mark.parametrize("max_count", [0, -1])
def test_room_for_no_address_is_an_error_and_changes_nothing(memory, max_count):
    memory.store(4)
    with pytest.raises(pagewatch.InvalidArgument, match="max_count"):
        memory.watch.get(reset=True, max_count=max_count)
    assert memory.get() == [4]


def test_changing_the_protection_neither_sets_nor_clears(memory):
    memory.store(4)
    for access in (libc.PROT_READ, libc.PROT_READ | libc.PROT_WRITE):
        libc.mprotect(memory.start, _PAGES * PAGE_SIZE, access)
        assert memory.get() == [4]


def test_an_array_is_watched_by_whole_pages():
    array = np.zeros(3 * PAGE_SIZE, np.uint8)
    array[:] = 1
    with pagewatch.WriteWatch(array) as watch:
        array[PAGE_SIZE + 7] = 2
        page = (array.ctypes.data + PAGE_SIZE + 7) // PAGE_SIZE * PAGE_SIZE
        # Beside the array, on its edge pages, others may write.
        assert page in watch.get(reset=True)
        assert page not in watch.get()


def test_what_a_call_had_reset_when_it_was_interrupted_is_in_the_next_answer(memory, monkeypatch):
    plain = pagemap.ioctl

    def interrupted(*arguments):
        plain(*arguments)
        raise KeyboardInterrupt

    memory.store(2, 8, 9)
    monkeypatch.setattr(pagemap, "ioctl", interrupted)
    with pytest.raises(KeyboardInterrupt):
        memory.watch.get(reset=True)
    monkeypatch.setattr(pagemap, "ioctl", plain)
    memory.store(4)
    assert memory.get(memory.at(8)) == [8, 9]
    assert memory.get(reset=True, max_count=2) == [2, 4]
    assert memory.get(reset=True) == [8, 9]
    assert memory.get() == []


def test_memory_mapped_anew_is_refused_and_what_was_reset_before_it_is_kept(memory):
    memory.store(1)
    memory.world.unmap(memory.at(8), 1)
    memory.world.map(1, at=memory.at(8))
    for call in (memory.watch.get, lambda: memory.watch.get(reset=True)):
        with pytest.raises(pagewatch.RangeNotArmed):
            call()
    assert memory.get(memory.start, memory.at(8)) == [1]
    memory.world.unmap(memory.at(8), 1)


def test_a_forked_child_is_refused_and_does_not_disturb(memory):
    memory.store(3)
    child = os.fork()
    if child == 0:
        try:
            memory.watch.get(reset=True)
        except pagewatch.TrackerClosed:
            memory.watch.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert memory.get() == [3]


def test_a_signal_handler_may_not_enter(memory, monkeypatch):
    plain = pagemap.ioctl
    refused = []

    def signalled(*arguments):
        monkeypatch.setattr(pagemap, "ioctl", plain)
        signal.raise_signal(signal.SIGUSR1)
        return plain(*arguments)

    def handler(*_):
        with pytest.raises(pagewatch.TrackerBusy):
            memory.watch.get()
        refused.append(True)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        monkeypatch.setattr(pagemap, "ioctl", signalled)
        memory.store(3)
        assert memory.get(reset=True) == [3]
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert refused


def test_closing_lifts_the_watch_and_later_calls_say_so(memory):
    memory.watch.close()
    memory.watch.close()
    with pytest.raises(pagewatch.TrackerClosed):
        memory.watch.get()
    with pagewatch.WriteWatch((memory.start, memory.end)) as again:
        assert again.get().tolist() == []


def test_a_dropped_write_watch_warns_and_gives_its_memory_back():
    with own_world() as world:
        start = world.map(1)
        with pytest.warns(ResourceWarning, match="a write watch was dropped"):
            pagewatch.WriteWatch((start, start + PAGE_SIZE))
        with pagewatch.WriteWatch((start, start + PAGE_SIZE)) as again:
            assert again.get().tolist() == []
            world.store(start, b"x")
            assert again.get().tolist() == [start]
