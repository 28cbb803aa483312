"""The regions of one scan: matching, coalescing, limits, and the kernel's staging of 512 regions."""

from pagewatch.vocab.query import Query

STAGE_REGIONS = 512
"""Regions per chunk (``PAGEMAP_WALK_SIZE >> PAGE_SHIFT``); the mmap lock is dropped between chunks."""

Row = tuple[int, int, int]


class Output:
    """What has been found so far (``struct pagemap_scan_private``)."""

    __slots__ = (
        "_anyof",
        "_inverted",
        "_mask",
        "_page_shift",
        "_returned",
        "_room",
        "_stage",
        "found_pages",
        "left_out",
        "max_pages",
        "regions",
        "walk_end",
        "wanted",
    )

    def __init__(self, query: Query, page_shift: int, *, max_pages: int, vec_len: int) -> None:
        """:param max_pages: 0 for no limit. :param vec_len: room for regions; 0 for none at all."""
        self._inverted = int(query.inverted)
        self._mask = int(query.mask)
        self._anyof = int(query.anyof)
        self._returned = int(query.returned)
        self._page_shift = page_shift
        self._stage: list[list[int]] = []
        self._room = vec_len
        self.wanted = vec_len > 0
        self.max_pages = max_pages or 1 << 64
        self.found_pages = 0
        self.regions: list[Row] = []
        self.left_out = False
        """Whether a huge page that was cut decides ``walk_end``; then it is not stale at the end."""
        self.walk_end = 0
        """0 as long as nothing stopped the walk early."""

    @property
    def stage_size(self) -> int:
        """How many regions fit before the stage has to be emptied."""
        return min(STAGE_REGIONS, self._room)

    def matches(self, categories: int) -> bool:
        """``pagemap_scan_is_interesting_page``."""
        seen = categories ^ self._inverted
        return seen & self._mask == self._mask and (not self._anyof or seen & self._anyof != 0)

    def push(self, categories: int, start: int, end: int) -> tuple[int, bool]:
        """Report [start, end); returns the end of what fitted, and whether the scan has to stop here.

        Without a vector everything fits, and no limit counts (``pagemap_scan_output``).
        """
        if not self.wanted:
            return end, False
        stop = False
        excess = self.found_pages + (end - start >> self._page_shift) - self.max_pages
        if excess > 0:
            end -= excess << self._page_shift
            stop = True
        if end > start and not self._append(categories & self._returned, start, end):
            end = start
            stop = True
        self.found_pages += end - start >> self._page_shift
        if stop:
            self.walk_end = end
        return end, stop

    def back_out(self, start: int, end: int) -> None:
        """Take back what was just reported (``pagemap_scan_backout_range``)."""
        if not self._stage:
            return
        last = self._stage[-1]
        if last[0] == start:
            self._stage.pop()
        else:
            last[1] = start
        self.found_pages -= end - start >> self._page_shift

    def leave_out(self, start: int) -> None:
        """A huge page at ``start`` could not be reported as a whole: the walk goes on, but did not get past it."""
        self.walk_end = start
        self.left_out = True

    def empty_stage(self) -> None:
        """Hand the staged regions to the caller's vector (``pagemap_scan_flush_buffer``)."""
        self.regions += [(start, end, categories) for start, end, categories in self._stage]
        self._room -= len(self._stage)
        self._stage = []

    def _append(self, categories: int, start: int, end: int) -> bool:
        if self._stage:
            last = self._stage[-1]
            if last[1] == start and last[2] == categories:
                last[1] = end
                return True
        if len(self._stage) >= self.stage_size:
            return False
        self._stage.append([start, end, categories])
        return True
