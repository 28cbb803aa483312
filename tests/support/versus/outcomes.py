"""The arena, and the words for what came of a step. Plain values: they cross process borders by ``marshal``.

A result is ``("ok", value)``, ``("errno", number)`` or ``("signal", number, code, address)``. An observation is all
that can be seen of the arena without touching it: regions of PAGEMAP_SCAN, flag bits of the pagemap words of
its places (bits 55 to 63, shifted down), and areas as ``(start, end, "rw-p")``.
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
    places: tuple[int, ...]
    """The pages that steps begin at, ascending; each stands for all up to the next."""
    swap: bool = False
    """Whether there is swap space: then steps page out."""
    pool: bool = False
    """Whether there are pages for hugetlb: then steps map them."""

    @property
    def end(self) -> int:
        """Bytes."""
        return self.base + self.n_pages * PAGE

    def at(self, page: int) -> int:
        """The address of a page."""
        return self.base + page * PAGE

    def part(self, place: int, n_places: int) -> tuple[int, int]:
        """First page and number of pages of that many places, or as many as there are from ``place`` on."""
        last = place + n_places
        end = self.places[last] if last < len(self.places) else self.n_pages
        return self.places[place], end - self.places[place]


SMALL = Arena(0x10_4000_0000 - 8 * PAGE, 16, 14, 0x1FF, tuple(range(16)))
"""Few pages, which steps meet again and again; the ninth begins a new page table, and a new table of those."""
HUGE_PAGES = 512
LARGE = Arena(
    0x10_8000_0000 - HUGE_PAGES * PAGE,
    2 * HUGE_PAGES + 16,
    2 * HUGE_PAGES + 6,
    0x1FF,
    (0, 1, 2, 255, 256, 511, 512, 513, 514, 700, 1022, 1023, 1024, 1025, 1028, 1032),
)
"""Room for two huge pages, in different tables of page tables, and a little more."""
N_PLACES = 16
"""In any arena."""
