"""Registration: who may, what is refused with which errno, and what stays."""

import errno

import pytest

from pagewatch.model import Kernel
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.model.vma import VM_IO, VM_MAYWRITE, VM_UFFD
from support.modelled import PAGE, Area


def refused(area: Area, *, mode: Mode = Mode.WP, start: int | None = None, length: int | None = None) -> int:
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    with pytest.raises(OSError, match="UFFDIO_REGISTER") as caught:
        uffd.register(area.start if start is None else start, area.n_pages * PAGE if length is None else length, mode)
    return caught.value.errno or 0


@pytest.mark.parametrize(
    "bad", [{"mode": Mode(0)}, {"start": 1}, {"length": 0}, {"length": 1}, {"start": 0, "length": PAGE}]
)
def test_bad_arguments_are_einval(bad: dict[str, int]) -> None:
    assert refused(Area(4), **bad) == errno.EINVAL


def test_a_file_that_may_not_be_written_is_eperm() -> None:
    area = Area(4, shared=True)
    area.process.areas[0].flags &= ~VM_MAYWRITE
    assert refused(area) == errno.EPERM


def test_another_userfaultfd_is_ebusy_and_may_still_protect() -> None:
    area = Area(4)
    area.armed()
    area.store(0, 1)
    assert refused(area) == errno.EBUSY
    other = area.process.userfaultfd(Feature.WP_ASYNC)
    other.writeprotect(area.start, PAGE)
    assert area.pages() == [1]
    with pytest.raises(OSError, match="Invalid argument"):
        other.unregister(area.start, PAGE)


def test_special_memory_is_einval() -> None:
    area = Area(4)
    area.process.areas[0].flags |= VM_IO
    assert refused(area) == errno.EINVAL


@pytest.mark.parametrize("mode", [Mode.MISSING, Mode.MINOR, Mode.WP | Mode.MISSING])
def test_a_disk_file_takes_asynchronous_write_protection_only(mode: Mode) -> None:
    kernel = Kernel()
    area = Area(4, process=kernel.spawn(), file=kernel.disk_file(4 * PAGE), shared=True)
    assert refused(area, mode=mode) == errno.EINVAL
    area.armed()


def test_gaps_are_skipped_and_only_the_range_is_watched() -> None:
    area = Area(8)
    area.process.munmap(area.at(3), PAGE)
    area.process.userfaultfd(Feature.WP_ASYNC).register(area.at(1), 6 * PAGE)
    watched = [(vma.start, vma.end) for vma in area.process.areas if vma.flags & VM_UFFD]
    assert watched == [(area.at(1), area.at(3)), (area.at(4), area.at(7))]


def test_unregistering_lifts_bits_and_markers_and_merges_the_areas_again() -> None:
    area = Area(8)
    area.store(1)
    uffd = area.armed()
    uffd.unregister(area.at(2), 4 * PAGE)
    assert len(area.process.areas) == 3
    uffd.unregister(area.start, 8 * PAGE)
    assert len(area.process.areas) == 1
    assert area.pages() == list(range(8))


def test_closing_lifts_everything_and_a_closed_descriptor_is_ebadf() -> None:
    area = Area(8)
    uffd = area.armed()
    uffd.close()
    uffd.close()
    assert area.process.areas[0].uffd is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        uffd.register(area.start, PAGE)


def test_registering_for_missing_pages_only_leaves_stale_protection_behind() -> None:
    area = Area(4)
    area.store(1)
    uffd = area.armed()
    uffd.register(area.start, 4 * PAGE, Mode.MISSING)
    area.store(1)
    assert area.process.load(area.at(1), 1) == b"x"
    assert 1 not in area.pages()


def test_an_exited_process_is_enomem() -> None:
    area = Area(4)
    uffd = area.process.userfaultfd(Feature.WP_ASYNC)
    area.process.exit()
    with pytest.raises(OSError, match="Cannot allocate memory"):
        uffd.register(area.start, PAGE)
