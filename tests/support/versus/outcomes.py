"""The arena, and the words for what came of a step. Plain values: they cross process borders by ``marshal``.

A result is ``("ok", value)``, ``("errno", number)`` or ``("signal", number, code, address)``. An observation is all
that can be seen of the arena without touching it: regions of PAGEMAP_SCAN, flag bits of pagemap words
(bits 55 to 63, shifted down), and areas as ``(start, end, "rw-p")``.
"""

from typing import NamedTuple

PAGE = 4096
WORD_AT = 16
"""Where in a page stores and loads are, in bytes."""
MAX_PROCESSES = 3

Result = tuple[object, ...]
Row = tuple[int, int, int]
Observation = tuple[tuple[Row, ...], tuple[int, ...], tuple[tuple[int, int, str], ...]]
Outcome = tuple[Result, Observation]
Step = tuple[object, ...]


class Arena(NamedTuple):
    """Where everything happens: pages are numbered from its base."""

    base: int
    n_pages: int
    file_pages: int
    """Size of the files at first: mappings may reach beyond their end."""
    categories: int
    """Every category that this kernel knows."""

    @property
    def end(self) -> int:
        """Bytes."""
        return self.base + self.n_pages * PAGE

    def at(self, page: int) -> int:
        """The address of a page."""
        return self.base + page * PAGE


SMALL = Arena(0x10_4000_0000 - 8 * PAGE, 16, 14, 0x1FF)
"""Few pages, which steps meet again and again; the ninth begins a new page table, and a new table of those."""
