"""Categories by one letter each, for tables of what is expected."""

from pagewatch.vocab.categories import Category

P, W, F, S, H, Z, A = (
    Category.PRESENT,
    Category.WRITTEN,
    Category.FILE,
    Category.SWAPPED,
    Category.HUGE,
    Category.PFNZERO,
    Category.WPALLOWED,
)
