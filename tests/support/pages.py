"""Sets of pages the naive way: a dict of page address to categories, one entry a page."""

from collections.abc import Iterable, Mapping

from hypothesis import strategies as st

from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.categories import Category
from pagewatch.vocab.regions import Regions

Pages = dict[int, int]

# Few pages and few values: neighbours and equal categories are what set algebra gets wrong.
FIRST_PAGE = 0x10_0000
N_PAGES = 24
page_numbers = st.integers(FIRST_PAGE, FIRST_PAGE + N_PAGES - 1)
page_sets = st.dictionaries(
    page_numbers.map(lambda page: page * PAGE_SIZE), st.sampled_from([0, 2, 6]), max_size=N_PAGES
)


def regions_of(pages: Mapping[int, int]) -> Regions:
    """The regions that hold exactly these pages, entered page by page."""
    return Regions([(at, at + PAGE_SIZE, Category(bits)) for at, bits in pages.items()])


def pages_of(regions: Iterable[tuple[int, int, int]]) -> Pages:
    """Every page of the regions. A page that two regions hold is an error."""
    pages: Pages = {}
    for start, end, categories in regions:
        for at in range(start, end, PAGE_SIZE):
            assert at not in pages, f"page {at:#x} is in two regions"
            pages[at] = int(categories)
    return pages


def runs_of(pages: Mapping[int, int]) -> list[tuple[int, int, int]]:
    """The shortest list of (start, end, categories) with these pages, found page by page."""
    runs: list[tuple[int, int, int]] = []
    for at in sorted(pages):
        if runs and runs[-1][1] == at and runs[-1][2] == pages[at]:
            runs[-1] = (runs[-1][0], at + PAGE_SIZE, pages[at])
        else:
            runs.append((at, at + PAGE_SIZE, pages[at]))
    return runs
