"""Slow GUP: what it faults for, what it refuses, and when it unshares."""

import errno

import pytest

from pagewatch.model import Kernel
from pagewatch.model.file import FileKind, FileMapping
from pagewatch.model.gup import get_user_pages
from pagewatch.model.invariants import check
from pagewatch.model.pins import Page, Want, release
from pagewatch.model.uffd.context import Feature, Mode
from support.modelled import PAGE, Area
from support.refusals import errno_of

PIN = Want.PIN
LONG = Want.PIN | Want.LONGTERM


def grab(area: Area, want: Want, page: int = 0) -> Page:
    """One page by the slow way, let go of at once."""
    (found,) = get_user_pages(area.process.mm, area.at(page), 1, want)
    release(area.kernel.machine.memory, found.folio, want)
    return found


def refused(area: Area, want: Want) -> int:
    return errno_of(grab, area, want)


def of_kind(kind: FileKind, *, shared: bool = True, prot: int = 3) -> Area:
    area = Area(1, shared=True)
    file = FileMapping(area.kernel.machine, kind, PAGE)
    return Area(1, process=area.process, shared=shared, file=file, prot=prot)


def test_a_write_grabs_the_page_that_stores_go_to() -> None:
    area = Area(1)
    folio, number = grab(area, PIN | Want.WRITE)
    area.process.store(area.start, b"seen")
    assert folio.words[number]
    check(area.kernel.machine)


def test_a_reader_of_nothing_gets_the_zero_page_and_only_a_long_term_pin_a_page_of_its_own() -> None:
    area = Area(1)
    zero = area.kernel.machine.memory.zero
    assert grab(area, Want.READ).folio is zero
    assert grab(area, PIN).folio is zero
    assert grab(area, LONG).folio.anon
    check(area.kernel.machine)


@pytest.mark.parametrize("writer_first", [False, True])
def test_a_read_pin_of_a_shared_page_unshares_it_so_that_later_writes_are_seen(*, writer_first: bool) -> None:
    area = Area(1)
    area.store(0)
    child = area.process.fork()
    if writer_first:
        child.store(area.start, b"c")
    (page,) = get_user_pages(area.process.mm, area.start, 1, PIN)
    area.process.store(area.start, b"later")
    assert page.folio.words[page.number][0] == int.from_bytes(b"later", "little")
    release(area.kernel.machine.memory, page.folio, PIN)
    check(area.kernel.machine)


def test_unsharing_keeps_tracking_bits_and_does_not_count_as_a_write() -> None:
    area = Area(1)
    area.store(0)
    child = area.process.fork()
    area.armed()
    grab(area, PIN)
    assert area.pages() == []
    assert child.load(area.start, 1) == b"x"


def test_a_plain_reference_does_not_unshare() -> None:
    area = Area(1)
    area.store(0)
    child = area.process.fork()
    mine = grab(area, Want.READ)
    assert mine == get_user_pages(child.mm, area.start, 1, Want.READ)[0]
    release(area.kernel.machine.memory, mine.folio, Want.READ)


def test_a_long_term_read_pin_of_a_private_file_page_makes_a_copy_first() -> None:
    area = Area(1, shared=True)
    private = Area(1, process=area.process, file=area.process.areas[0].file)
    private.load(0)
    assert not grab(private, PIN).folio.anon
    assert grab(private, LONG).folio.anon


def test_a_write_pin_of_an_armed_page_makes_it_written() -> None:
    area = Area(1)
    area.armed()
    grab(area, PIN)
    assert area.pages() == []
    grab(area, PIN | Want.WRITE)
    assert area.pages() == [0]


def test_a_synchronous_monitor_is_told_of_a_write_pin() -> None:
    area = Area(1)
    area.store(0)
    uffd = area.armed(Feature.PAGEFAULT_FLAG_WP)
    told = []

    def answer() -> None:
        told.append(uffd.read().address)
        uffd.writeprotect(area.start, PAGE, protect=False)

    uffd.handle_with(answer)
    grab(area, PIN | Want.WRITE)
    assert told == [area.start]


@pytest.mark.parametrize(
    ("kind", "want", "number"),
    [
        (FileKind.SECRET, Want.READ, errno.EFAULT),
        (FileKind.DISK, LONG | Want.WRITE, errno.EFAULT),
        (FileKind.DAX, LONG, errno.EOPNOTSUPP),
    ],
)
def test_what_cannot_be_pinned(kind: FileKind, want: Want, number: int) -> None:
    assert refused(of_kind(kind), want) == number


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        (FileKind.DISK, PIN | Want.WRITE),
        (FileKind.DISK, LONG),
        (FileKind.SHMEM, LONG | Want.WRITE),
        (FileKind.DAX, PIN | Want.WRITE),
    ],
)
def test_what_can_be_pinned(kind: FileKind, want: Want) -> None:
    area = of_kind(kind)
    assert grab(area, want).folio.mapping is area.process.areas[0].file


def test_access_rights_count_unless_a_debugger_asks() -> None:
    area = Area(1, prot=1)
    assert refused(area, Want.WRITE) == errno.EFAULT
    folio, _ = grab(area, Want.WRITE | Want.FORCE)
    assert folio.anon
    assert refused(Area(1, prot=0), Want.READ) == errno.EFAULT
    shared = Area(1, shared=True, prot=1)
    assert refused(shared, Want.WRITE | Want.FORCE) == errno.EFAULT


def test_failed_memory_has_an_errno_of_its_own_for_those_who_ask() -> None:
    area = Area(1)
    uffd = area.process.userfaultfd(Feature(0))
    uffd.register(area.start, PAGE, Mode.MISSING)
    uffd.poison(area.start, PAGE)
    assert refused(area, Want.READ) == errno.EFAULT
    assert refused(area, Want.READ | Want.HWPOISON) == 133


def test_an_address_that_is_not_mapped_is_efault() -> None:
    process = Kernel().spawn()
    with pytest.raises(OSError, match="get_user_pages: Bad address"):
        get_user_pages(process.mm, PAGE, 1, Want.READ)
