"""madvise: contents, protection, and errnos."""

import errno

import pytest

from pagewatch.model import Kernel, Quirks, Signal
from pagewatch.model.madvise import Advice
from pagewatch.vocab.categories import Category
from support.modelled import PAGE, Area
from support.refusals import errno_of


def test_dontneed_reads_as_zeros_or_as_the_file_again() -> None:
    kernel = Kernel()
    file = kernel.memfd(PAGE)
    file.write(0, b"file")
    area = Area(1, process=kernel.spawn(), file=file)
    area.process.store(area.start, b"mine")
    area.advise(Advice.DONTNEED, 0, 1)
    assert area.load(0, 4) == b"file"
    area = Area(1)
    area.store(0)
    area.advise(Advice.DONTNEED, 0, 1)
    assert area.load(0) == b"\0"


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "private copy"])
def test_dropping_armed_file_memory_is_not_seen(*, shared: bool) -> None:
    kernel = Kernel()
    area = Area(2, process=kernel.spawn(), file=kernel.memfd(2 * PAGE), shared=shared)
    area.store(0, 1)
    area.armed()
    area.advise(Advice.DONTNEED, 0, 1)
    assert area.pages() == []
    assert area.categories(0) & Category.SWAPPED


def test_removing_punches_a_hole_and_keeps_protection() -> None:
    area = Area(2, shared=True)
    area.store(0, 1)
    area.armed()
    area.advise(Advice.REMOVE, 0, 1)
    assert area.pages() == []
    assert (area.load(0), area.load(1)) == (b"\0", b"x")


def test_freed_memory_keeps_its_bytes_until_reclaim_and_then_reads_as_written() -> None:
    area = Area(2)
    area.store(0, 1)
    area.armed()
    area.advise(Advice.FREE, 0, 2)
    assert area.load(0) == b"x"
    area.store(1)
    area.advise(Advice.PAGEOUT, 0, 2)
    assert (area.load(0), area.load(1)) == (b"\0", b"x")
    area.raw(flags=1)
    assert area.pages() == []


def test_paging_out_keeps_protection_and_without_swap_does_nothing() -> None:
    for on in (True, False):
        area = Area(2)
        area.kernel.machine.swap.on = on
        area.store(0)
        area.armed()
        area.advise(Advice.PAGEOUT, 0, 1)
        assert bool(area.categories(0) & Category.SWAPPED) is on
        assert area.pages() == []
        assert area.load(0) == b"x"
        assert area.pages() == []


def test_a_swapped_out_memfd_page_comes_back_for_every_process() -> None:
    kernel = Kernel()
    file = kernel.memfd(PAGE)
    area = Area(1, process=kernel.spawn(), file=file, shared=True)
    area.store(0)
    area.advise(Advice.PAGEOUT, 0, 1)
    assert 0 in file.swapped
    other = kernel.spawn()
    at = other.mmap(PAGE, shared=True, file=file)
    assert other.load(at, 1) == b"x"


def test_guards_replace_what_was_there_and_survive_dontneed() -> None:
    area = Area(4)
    area.store(*range(4))
    area.advise(Advice.GUARD_INSTALL, 1, 3)
    area.advise(Advice.DONTNEED, 0, 4)
    with pytest.raises(Signal):
        area.load(1)
    area.advise(Advice.GUARD_REMOVE, 0, 4)
    assert [area.load(page) for page in range(4)] == [b"\0"] * 4


@pytest.mark.parametrize("advice", [Advice.GUARD_INSTALL, Advice.GUARD_REMOVE])
def test_guards_came_first_for_anonymous_memory_and_then_for_files(advice: Advice) -> None:
    def answers(quirks: Quirks) -> list[int]:
        found = []
        for shared in (False, True):
            area = Area(2, quirks=quirks, shared=shared)
            try:
                area.advise(advice, 0, 1)
                found.append(0)
            except OSError as error:
                found.append(error.errno)
        return found

    assert answers(Quirks()) == [0, 0]
    assert answers(Quirks(guards_in_files=False)) == [0, errno.EINVAL]
    assert answers(Quirks(guards=False)) == [errno.EINVAL, errno.EINVAL]


def test_advice_that_is_unknown_is_refused_even_for_nothing() -> None:
    area = Area(1, quirks=Quirks(guards=False))
    with pytest.raises(OSError, match="madvise") as caught:
        area.advise(Advice.GUARD_INSTALL, 0, 0)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("start", "length", "advice", "number"),
    [
        (1, PAGE, Advice.DONTNEED, errno.EINVAL),
        (0, PAGE, 99, errno.EINVAL),
        (0, 8 * PAGE, Advice.DONTNEED, errno.ENOMEM),
        (0, PAGE, Advice.REMOVE, errno.EINVAL),
        (4 * PAGE, PAGE, Advice.POPULATE_READ, errno.ENOMEM),
        (3 * PAGE, PAGE, Advice.POPULATE_WRITE, errno.EINVAL),
    ],
)
def test_errors(start: int, length: int, advice: int, number: int) -> None:
    area = Area(4)
    area.process.mprotect(area.at(3), PAGE, 1)
    with pytest.raises(OSError, match="madvise") as caught:
        area.process.madvise(area.start + start, length, advice)
    assert caught.value.errno == number


def test_a_gap_is_reported_after_the_rest_is_done() -> None:
    area = Area(4)
    area.store(*range(4))
    area.process.munmap(area.at(1), PAGE)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        area.advise(Advice.DONTNEED, 0, 4)
    assert area.load(3) == b"\0"


def test_poison_makes_population_fail_with_ehwpoison() -> None:
    area = Area(1)
    uffd = area.process.userfaultfd(1 << 15)
    uffd.register(area.start, PAGE)
    uffd.poison(area.start, PAGE)
    assert errno_of(area.advise, Advice.POPULATE_READ, 0, 1) == 133
