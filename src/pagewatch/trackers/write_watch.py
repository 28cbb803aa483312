"""Write watch: which pages were written, and watch them anew. What Windows calls GetWriteWatch and ResetWriteWatch.

The two calls map to one scan each. Get and reset is one step for every page, so no write falls in between; a reset
alone reports nothing and protects everything, whatever was written before.
"""

from typing import TYPE_CHECKING

from pagewatch.vocab.categories import Category
from pagewatch.vocab.query import Query

if TYPE_CHECKING:
    from pagewatch.ports import Scanner, WriteProtection
    from pagewatch.vocab.scan import Scan

_WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)


class WriteWatch:
    """Watches one range of memory [start, end), bytes, page aligned; owns neither of its two ports."""

    def __init__(self, start: int, end: int, *, scanner: "Scanner", protection: "WriteProtection") -> None:
        """Watch from here on.

        :raises RangeNotTrackable: the kernel cannot protect some of it, or another userfaultfd does.
        """
        self._start, self._end = start, end
        self._scanner = scanner
        self._protection = protection
        protection.register(start, end)
        protection.protect(start, end)

    def get(
        self, start: int | None = None, end: int | None = None, *, reset: bool = False, max_pages: int = 0
    ) -> "Scan":
        """The pages written since they were last reset (``GetWriteWatch``).

        :param start: where to look, bytes, page aligned; by default at all that is watched. So for ``end``.
        :param reset: watch those anew, each in the same step (``WRITE_WATCH_FLAG_RESET``).
        :param max_pages: no more than so many, 0 for all; what is left out stays written, and ``walk_end`` says
            where to go on.
        :raises RangeNotArmed: some of the memory was mapped anew, and is not watched.
        :raises TargetGone: the process exited.
        """
        return self._scanner.scan(
            *self._bounds(start, end), _WRITTEN, protect=reset, require_armed=True, max_pages=max_pages
        )

    def reset(self, start: int | None = None, end: int | None = None) -> None:
        """Watch it anew, by default all of it, and forget what was written (``ResetWriteWatch``).

        :raises RangeNotArmed: some of the memory was mapped anew, and is not watched.
        """
        self._protection.protect(*self._bounds(start, end))

    def _bounds(self, start: int | None, end: int | None) -> tuple[int, int]:
        return self._start if start is None else start, self._end if end is None else end

    def close(self) -> None:
        """Watch no more."""
        self._protection.unregister(self._start, self._end)
