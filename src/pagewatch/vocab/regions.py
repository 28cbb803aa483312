"""Regions: an immutable, sorted set of page ranges, each with one category value.

One structured array in the kernel's own layout (``struct page_region``: start, end, categories, three
u64), so PAGEMAP_SCAN fills it directly. Always canonical: ascending, disjoint, not empty, and touching
regions with equal categories merged; so equality of the arrays is equality of the sets.
"""

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from pagewatch.vocab.addresses import PAGE_SIZE, is_page_aligned
from pagewatch.vocab.buffers import buffer_span
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import InvalidArgument
from pagewatch.vocab.wording import plural

REGION = np.dtype([("start", "<u8"), ("end", "<u8"), ("categories", "<u8")])
"""``struct page_region`` of include/uapi/linux/fs.h."""

_U64 = npt.NDArray[np.uint64]
_LAST_END = (1 << 64) - 1


class Region(NamedTuple):
    """One half-open byte range [start, end) whose pages share ``categories``."""

    start: int
    end: int
    categories: Category


class Regions:
    """An immutable set of page ranges; see the module for its layout."""

    __slots__ = ("_array", "_page_size")

    def __init__(self, regions: Any = (), *, page_size: int = PAGE_SIZE) -> None:
        """:param regions: rows of (start, end) or (start, end, categories), or an array of ``REGION``.

        :raises InvalidArgument: a row is empty, not page aligned, or overlaps another.
        """
        array = _as_region_array(regions)
        if len(array):
            array = _canonical(array, page_size)
        self._array = array
        self._array.flags.writeable = False
        self._page_size = page_size

    @classmethod
    def from_kernel(cls, array: npt.NDArray[np.void], *, page_size: int = PAGE_SIZE) -> Self:
        """Take over an array of ``REGION`` that is canonical already; it is neither copied nor checked."""
        self = cls.__new__(cls)
        array.flags.writeable = False
        self._array = array
        self._page_size = page_size
        return self

    @classmethod
    def from_pages(cls, addresses: Any, categories: Category = Category(0), *, page_size: int = PAGE_SIZE) -> Self:
        """The set of pages that start at ``addresses`` (bytes, any order, duplicates welcome).

        :raises InvalidArgument: an address is not the start of a page.
        """
        pages = _distinct(_as_addresses(addresses))
        if np.any(pages & np.uint64(page_size - 1)):
            raise InvalidArgument(f"page addresses must be multiples of {page_size}")
        if len(pages) and int(pages[-1]) > _LAST_END - page_size:
            raise InvalidArgument("the last page of the 64-bit address space has no end that fits 64 bits")
        array = np.empty(len(pages), REGION)
        array["start"] = pages
        array["end"] = pages + np.uint64(page_size)
        array["categories"] = int(categories)
        return cls.from_kernel(merge_touching(array), page_size=page_size)

    @property
    def array(self) -> npt.NDArray[np.void]:
        """The read-only array of ``REGION`` behind this set."""
        return self._array

    @property
    def page_size(self) -> int:
        """Bytes of a page, for :attr:`pages` and :meth:`page_addresses`."""
        return self._page_size

    @property
    def nbytes(self) -> int:
        """Bytes covered."""
        # Each sum may wrap; their difference does not.
        return (int(self._array["end"].sum()) - int(self._array["start"].sum())) % (1 << 64)

    @property
    def pages(self) -> int:
        """Pages covered."""
        return self.nbytes // self._page_size

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[Region]:
        return (Region(start, end, Category(bits)) for start, end, bits in self._array.tolist())

    def __getitem__(self, index: int) -> Region:
        start, end, bits = self._array[operator.index(index)].tolist()
        return Region(start, end, Category(bits))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Regions):
            return NotImplemented
        return self._page_size == other._page_size and np.array_equal(self._array, other._array)

    def __hash__(self) -> int:
        return hash((self._page_size, self._array.tobytes()))

    def __getstate__(self) -> tuple[npt.NDArray[np.void], int]:
        return self._array, self._page_size

    def __setstate__(self, state: tuple[npt.NDArray[np.void], int]) -> None:
        self._array, self._page_size = state
        # A pickled array forgets that it was read-only.
        self._array.flags.writeable = False

    def __repr__(self) -> str:
        shown = ", ".join(f"{r.start:#x}-{r.end:#x}" for _, r in zip(range(4), self, strict=False))
        more = ", ..." if len(self) > 4 else ""
        pages, regions = plural(self.pages, "page"), plural(len(self), "region")
        return f"<Regions {pages} in {regions}: {shown}{more}>" if len(self) else "<Regions: no page>"

    def __or__(self, other: "Regions") -> Self:
        """Pages of either; where both have a page, its categories are united."""
        if not len(other):
            return self
        return self._combine(other, lambda in_self, in_other: in_self | in_other)

    def __and__(self, other: "Regions") -> Self:
        """Pages of both, with the categories of both united."""
        return self._combine(other, lambda in_self, in_other: in_self & in_other)

    def __sub__(self, other: "Regions") -> Self:
        """Pages of this set that the other does not have, with the categories they have here."""
        if not len(other):
            return self
        return self._combine(other, lambda in_self, in_other: in_self & ~in_other)

    def clip(self, start: int, end: int) -> Self:
        """The part inside [start, end) (bytes, page aligned).

        :raises InvalidArgument: a bound would cut a page.
        """
        if not is_page_aligned(start | end, self._page_size):
            raise InvalidArgument(f"{start:#x}-{end:#x} would cut a page of {self._page_size} bytes")
        start, end = max(start, 0), min(end, _LAST_END)
        if start >= end:
            return type(self)(page_size=self._page_size)
        first = int(np.searchsorted(self._array["end"], np.uint64(start), side="right"))
        last = int(np.searchsorted(self._array["start"], np.uint64(end), side="left"))
        part = self._array[first:last].copy()
        if len(part):
            part["start"][0] = max(int(part["start"][0]), start)
            part["end"][-1] = min(int(part["end"][-1]), end)
        return self.from_kernel(part, page_size=self._page_size)

    def plain(self) -> Self:
        """The same pages with all categories 0: what set algebra on addresses alone wants."""
        return self.showing(Category(0)) if self._array["categories"].any() else self

    def showing(self, categories: Category) -> Self:
        """The same pages with only these of their categories."""
        array = self._array.copy()
        array["categories"] &= np.uint64(categories)
        return self.from_kernel(merge_touching(array), page_size=self._page_size)

    def having(self, categories: Category) -> Self:
        """Only the pages with all of these categories."""
        wanted = np.uint64(categories)
        kept = self._array[(self._array["categories"] & wanted) == wanted]
        return self.from_kernel(kept, page_size=self._page_size)

    def page_addresses(self) -> _U64:
        """The start of every page, ascending, as u64."""
        counts = ((self._array["end"] - self._array["start"]) // np.uint64(self._page_size)).astype(np.int64)
        total = int(counts.sum())
        before = np.cumsum(counts) - counts
        within = np.arange(total, dtype=np.uint64) - np.repeat(before, counts).astype(np.uint64)
        starts: _U64 = np.repeat(self._array["start"], counts) + within * np.uint64(self._page_size)
        return starts

    def within(self, buffer: Any) -> list[slice]:
        """Byte slices into ``buffer`` that the regions cover, ascending, clipped to the buffer.

        :param buffer: any contiguous buffer that :func:`pagewatch.track` takes.
        """
        base, n_bytes = buffer_span(buffer)
        starts = np.maximum(self._array["start"].astype(np.int64) - base, 0)
        ends = np.minimum(self._array["end"].astype(np.int64) - base, n_bytes)
        kept = starts < ends
        return [slice(a, b) for a, b in zip(starts[kept].tolist(), ends[kept].tolist(), strict=True)]

    def _combine(self, other: "Regions", keep: Callable[[Any, Any], Any]) -> Self:
        if self._page_size != other._page_size:
            raise InvalidArgument(f"page sizes differ: {self._page_size} and {other._page_size}")
        a, b = self._array, other._array
        edges = _distinct(np.concatenate([a["start"], a["end"], b["start"], b["end"]]))
        if len(edges) < 2:
            return self.from_kernel(np.empty(0, REGION), page_size=self._page_size)
        in_a, bits_a = _lookup(a, edges[:-1])
        in_b, bits_b = _lookup(b, edges[:-1])
        kept = keep(in_a, in_b)
        array = np.empty(int(np.count_nonzero(kept)), REGION)
        array["start"] = edges[:-1][kept]
        array["end"] = edges[1:][kept]
        # Where a page of `other` is dropped from `self - other`, bits_b is not kept either.
        array["categories"] = (bits_a | bits_b)[kept]
        return self.from_kernel(merge_touching(array), page_size=self._page_size)


def join(parts: Iterable[Regions], *, page_size: int = PAGE_SIZE) -> Regions:
    """The union of sets that do not overlap, in one step."""
    arrays = [part.array for part in parts if len(part)]
    if not arrays:
        return Regions(page_size=page_size)
    if len(arrays) == 1:
        return Regions.from_kernel(arrays[0], page_size=page_size)
    return Regions(np.concatenate(arrays), page_size=page_size)


def merge_touching(array: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Merge neighbours of a sorted, disjoint array that touch and have equal categories."""
    if len(array) < 2:
        return array
    joined = (array["start"][1:] == array["end"][:-1]) & (array["categories"][1:] == array["categories"][:-1])
    if not joined.any():
        return array
    first = np.flatnonzero(np.concatenate([[True], ~joined]))
    merged = array[first].copy()
    merged["end"] = array["end"][np.concatenate([first[1:] - 1, [len(array) - 1]])]
    return merged


def _distinct(values: _U64) -> _U64:
    """The values ascending, each once."""
    # The input is a few ascending runs, which a stable sort merges; np.unique takes sixty times as long for them.
    ordered = np.sort(values, kind="stable")
    first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def _lookup(array: npt.NDArray[np.void], points: _U64) -> tuple[npt.NDArray[np.bool_], _U64]:
    """For each point: whether a region holds it, and that region's categories (0 where none does)."""
    if not len(array):
        return np.zeros(len(points), np.bool_), np.zeros(len(points), np.uint64)
    index = np.searchsorted(array["start"], points, side="right") - 1
    inside = (index >= 0) & (points < array["end"][index])
    return inside, np.where(inside, array["categories"][index], np.uint64(0))


def _as_region_array(regions: Any) -> npt.NDArray[np.void]:
    if isinstance(regions, np.ndarray) and regions.dtype == REGION:
        return regions.copy()
    try:
        rows = [_as_row(row) for row in regions]
    except TypeError as error:
        raise InvalidArgument(f"regions are rows of (start, end) or (start, end, categories): {error}") from error
    try:
        return np.array(rows, REGION)
    except OverflowError as error:
        raise InvalidArgument("a region's numbers must fit 64 bits and not be negative") from error


def _as_row(row: Any) -> tuple[int, int, int]:
    numbers = [operator.index(number) for number in row]
    if len(numbers) == 2:
        return numbers[0], numbers[1], 0
    if len(numbers) == 3:
        return numbers[0], numbers[1], numbers[2]
    raise InvalidArgument(f"a region is (start, end) or (start, end, categories), not {row!r}")


def _as_addresses(addresses: Any) -> _U64:
    array = np.asarray(addresses)
    if array.size and (array.dtype.kind not in "iu" or (array.dtype.kind == "i" and array.min() < 0)):
        raise InvalidArgument("page addresses must be integers that are not negative")
    return array.astype(np.uint64)


def _canonical(array: npt.NDArray[np.void], page_size: int) -> npt.NDArray[np.void]:
    array = array[np.argsort(array["start"], kind="stable")]
    if not (array["start"] < array["end"]).all():
        raise InvalidArgument("a region must end after it starts")
    if not is_page_aligned(int(np.bitwise_or.reduce(array["start"] | array["end"])), page_size):
        raise InvalidArgument(f"regions must start and end at multiples of {page_size}")
    if (array["end"][:-1] > array["start"][1:]).any():
        raise InvalidArgument("regions overlap; unite them with |")
    return merge_touching(array)
