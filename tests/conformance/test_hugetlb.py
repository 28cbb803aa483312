"""Random histories of hugetlb memory on the running kernel and on the model, compared after every step.

Compared are the result and walk_end of every raw scan, the categories of the whole area, the words of
/proc/PID/pagemap, contents and errno.
"""

import ctypes
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagewatch.model.invariants import check
from pagewatch.model.scan.call import WP_MATCHING, ScanArg
from pagewatch.model.uffd.context import Feature
from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query
from support import libc, raw
from support.hugepages import hugetlb_pages
from support.hugetlb_world import HugeArea

pytestmark = pytest.mark.live

HUGE, N_PAGES, SMALL = 1 << 21, 3, 512
END = N_PAGES * SMALL
LAST_PAGE = SMALL * 4096 - 8
WORD_BITS = 1 << 57 | 1 << 58 | 1 << 61 | 1 << 62 | 1 << 63
BITS = raw.WPALLOWED | raw.WRITTEN | raw.FILE | raw.PRESENT | raw.SWAPPED | raw.PFNZERO | raw.HUGE
DONTNEED, POPULATE_READ, POPULATE_WRITE, READ, READ_WRITE = 4, 22, 23, 1, 3


class Live:
    """The kernel's side: memory of this process."""

    def __init__(self, start: int, fd: int) -> None:
        self.start = start
        self._fd = fd

    def store(self, at: int, value: int) -> None:
        ctypes.memset(self.start + at, value, 1)

    def load(self, at: int) -> bytes:
        return ctypes.string_at(self.start + at, 1)

    def madvise(self, at: int, n_bytes: int, advice: int) -> None:
        libc.madvise(self.start + at, n_bytes, advice)

    def mprotect(self, at: int, n_bytes: int, prot: int) -> None:
        libc.mprotect(self.start + at, n_bytes, prot)

    def protect(self, at: int, n_bytes: int) -> None:
        raw.protect(self._fd, self.start + at, self.start + at + n_bytes)

    def scan(self, first: int, last: int, mask: int, max_pages: int, *, protect: bool) -> object:
        low, high = self.start + first * 4096, self.start + last * 4096
        answer = raw.scan(low, high, mask=mask, returned=BITS, max_pages=max_pages, protect=protect)
        return [(a - self.start, b - self.start, c) for a, b, c in answer.regions], answer.walk_end - self.start

    def words(self) -> list[int]:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY)
        try:
            data = os.pread(fd, END * 8, self.start // 4096 * 8)
        finally:
            os.close(fd)
        return [word & WORD_BITS for (word,) in struct.iter_unpack("Q", data)]


class Modelled:
    """The model's side."""

    def __init__(self, *, shared: bool) -> None:
        self.area = HugeArea(n_pages=N_PAGES, shared=shared)
        self._process, self._start = self.area.process, self.area.start
        # The test's own process has other memory nearby, so there is a page table before anything is touched.
        self._process.store(self._process.mmap(4096), b"neighbour")
        self._uffd = self._process.userfaultfd(Feature.WP_ASYNC)
        self._uffd.register(self._start, self.area.n_bytes)

    def store(self, at: int, value: int) -> None:
        self._process.store(self._start + at, bytes([value]))

    def load(self, at: int) -> bytes:
        return self._process.load(self._start + at, 1)

    def madvise(self, at: int, n_bytes: int, advice: int) -> None:
        self._process.madvise(self._start + at, n_bytes, advice)

    def mprotect(self, at: int, n_bytes: int, prot: int) -> None:
        self._process.mprotect(self._start + at, n_bytes, prot)

    def protect(self, at: int, n_bytes: int) -> None:
        self._uffd.writeprotect(self._start + at, n_bytes)

    def scan(self, first: int, last: int, mask: int, max_pages: int, *, protect: bool) -> object:
        reply = self._process.pagemap_scan(
            ScanArg(
                start=self._start + first * 4096,
                end=self._start + last * 4096,
                query=Query(mask=Category(mask), returned=Category(BITS)),
                flags=WP_MATCHING if protect else 0,
                vec_len=1 << 16,
                max_pages=max_pages,
            )
        )
        assert reply.walk_end is not None
        return [(a - self._start, b - self._start, c) for a, b, c in reply.regions], reply.walk_end - self._start

    def words(self) -> list[int]:
        return [word & WORD_BITS for word in self._process.pagemap(self._start, END)]


@pytest.fixture(scope="module")
def pool() -> Iterator[None]:
    with hugetlb_pages(4 * N_PAGES, size=HUGE):
        yield


_small = st.integers(0, END)
_ranges = st.tuples(_small, _small).map(lambda pair: (min(pair), max(pair)))
_bytes = st.tuples(st.integers(0, N_PAGES - 1), st.sampled_from([0, 4095, LAST_PAGE])).map(
    lambda place: place[0] * HUGE + place[1]
)
_pieces = st.tuples(st.integers(0, N_PAGES - 1), st.integers(1, N_PAGES)).map(
    lambda piece: (piece[0] * HUGE, min(piece[1], N_PAGES - piece[0]) * HUGE)
)
# Never beyond the end: what lies there is not the same on both sides.
_odd_pieces = st.tuples(_pieces, st.sampled_from([(0, 0), (0, 0), (4096, -4096), (0, -4096)])).map(
    lambda both: (both[0][0] + both[1][0], both[0][1] + both[1][1])
)
OPERATIONS = st.one_of(
    st.tuples(st.just("store"), _bytes.flatmap(lambda at: st.tuples(st.just(at), st.integers(1, 255)))),
    st.tuples(st.just("load"), _bytes.map(lambda at: (at,))),
    st.tuples(
        st.just("madvise"),
        st.tuples(_odd_pieces, st.sampled_from([DONTNEED, POPULATE_READ, POPULATE_WRITE])).map(lambda x: (*x[0], x[1])),
    ),
    st.tuples(
        st.just("mprotect"), st.tuples(_odd_pieces, st.sampled_from([READ, READ_WRITE])).map(lambda x: (*x[0], x[1]))
    ),
    st.tuples(st.just("protect"), _odd_pieces),
    st.tuples(
        st.just("scan"),
        st.tuples(_ranges, st.sampled_from([0, raw.WRITTEN, raw.PRESENT]), st.sampled_from([0, 0, 100, 600])).map(
            lambda x: (*x[0], x[1], x[2])
        ),
    ),
    st.tuples(
        st.just("arm"),
        st.tuples(_ranges, st.sampled_from([0, raw.WRITTEN]), st.sampled_from([0, 0, 100, 600])).map(
            lambda x: (*x[0], x[1], x[2])
        ),
    ),
)


def _apply(side: Live | Modelled, name: str, arguments: tuple[int, ...]) -> object:
    try:
        if name in ("scan", "arm"):
            return side.scan(*arguments, protect=name == "arm")
        return getattr(side, name)(*arguments)
    except OSError as error:
        return f"errno {error.errno}"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shared=st.booleans(), history=st.lists(OPERATIONS, max_size=25))
def test_the_model_does_what_the_kernel_does(pool: None, history: list, *, shared: bool) -> None:
    flags = (libc.MAP_SHARED if shared else libc.MAP_PRIVATE) | libc.MAP_ANONYMOUS | libc.MAP_HUGETLB | 21 << 26
    start = libc.mmap(N_PAGES * HUGE, flags=flags)
    try:
        with raw.registered((start, start + N_PAGES * HUGE)) as fd:
            live, modelled = Live(start, fd), Modelled(shared=shared)
            readonly: set[int] = set()
            for name, arguments in history:
                if name == "store" and arguments[0] // HUGE in readonly:
                    continue  # a signal here would end the test; the model's is tested elsewhere
                mine, theirs = (_apply(side, name, arguments) for side in (modelled, live))
                assert mine == theirs, (name, arguments)
                if name == "mprotect" and mine is None:
                    pages = range(arguments[0] // HUGE, (arguments[0] + arguments[1]) // HUGE)
                    readonly = readonly | set(pages) if arguments[2] == READ else readonly - set(pages)
                assert modelled.words() == live.words(), (name, arguments)
                every = (0, END, 0, 0)
                assert modelled.scan(*every, protect=False) == live.scan(*every, protect=False), (name, arguments)
                check(modelled.area.kernel.machine)
    finally:
        libc.munmap(start, N_PAGES * HUGE)
