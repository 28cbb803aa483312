"""mmap, munmap, mprotect: areas split, merge and grow by the rules."""

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.model import Kernel
from pagewatch.model.invariants import check
from support.modelled import PAGE, Area
from support.refusals import errno_of

BASE = 1 << 32


def layout(process) -> list[tuple[int, int, int]]:
    return [((v.start - BASE) // PAGE, (v.end - BASE) // PAGE, v.flags & 7) for v in process.areas]


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from(["map", "unmap", "r", "rw", "none"]), st.integers(0, 15), st.integers(1, 6)),
        max_size=12,
    )
)
def test_areas_are_the_runs_of_equal_pages(history: list[tuple[str, int, int]]) -> None:
    process = Kernel().spawn()
    pages: dict[int, int] = {}
    for action, first, n in history:
        span = range(first, first + n)
        if action == "map":
            process.mmap(n * PAGE, at=BASE + first * PAGE)
            pages |= dict.fromkeys(span, 3)
        elif action == "unmap":
            process.munmap(BASE + first * PAGE, n * PAGE)
            pages = {page: prot for page, prot in pages.items() if page not in span}
        else:
            prot = {"r": 1, "rw": 3, "none": 0}[action]
            whole = all(page in pages for page in span)
            refused = errno_of(process.mprotect, BASE + first * PAGE, n * PAGE, prot)
            assert refused == (0 if whole else errno.ENOMEM)
            for page in span:
                if page not in pages:
                    break
                pages[page] = prot
    runs: list[tuple[int, int, int]] = []
    for page, prot in sorted(pages.items()):
        if runs and runs[-1][1] == page and runs[-1][2] == prot:
            runs[-1] = (runs[-1][0], page + 1, prot)
        else:
            runs.append((page, page + 1, prot))
    assert layout(process) == runs
    check(process.mm.machine)


def test_files_merge_only_at_adjoining_offsets() -> None:
    kernel = Kernel()
    process, file = kernel.spawn(), kernel.memfd(8 * PAGE)
    for page in (0, 1, 3):
        process.mmap(PAGE, shared=True, file=file, offset=page * PAGE, at=BASE + page * PAGE)
    process.mmap(PAGE, shared=True, file=file, offset=0, at=BASE + 2 * PAGE)
    assert [bounds[:2] for bounds in layout(process)] == [(0, 2), (2, 3), (3, 4)]


def test_registered_areas_merge_only_with_their_own_kind() -> None:
    area = Area(4)
    uffd = area.process.userfaultfd(1 << 15)
    uffd.register(area.at(1), PAGE)
    assert len(area.process.areas) == 3
    uffd.register(area.at(2), PAGE)
    assert len(area.process.areas) == 3


@pytest.mark.parametrize(
    ("call", "number"),
    [
        (lambda p: p.mmap(0), errno.EINVAL),
        (lambda p: p.mmap(PAGE, at=1), errno.EINVAL),
        (lambda p: p.mmap(1 << 60), errno.ENOMEM),
        (lambda p: p.munmap(1, PAGE), errno.EINVAL),
        (lambda p: p.munmap(0, 0), errno.EINVAL),
        (lambda p: p.mprotect(BASE, PAGE, 1), errno.ENOMEM),
    ],
)
def test_errors(call, number: int) -> None:
    with pytest.raises(OSError, match=r"Invalid argument|Cannot allocate memory") as caught:
        call(Kernel().spawn())
    assert caught.value.errno == number


def test_unmapping_a_gap_changes_nothing() -> None:
    process = Kernel().spawn()
    process.munmap(BASE, PAGE)
    assert layout(process) == []
    for page in (0, 2):
        process.mmap(PAGE, at=BASE + page * PAGE)
        process.store(BASE + page * PAGE, b"kept")
    process.munmap(BASE + PAGE, PAGE)
    assert layout(process) == [(0, 1, 3), (2, 3, 3)]
    assert [process.load(BASE + page * PAGE, 4) for page in (0, 2)] == [b"kept", b"kept"]
    check(process.mm.machine)
