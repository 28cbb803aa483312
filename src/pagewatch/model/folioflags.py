"""Flags of folios that threads without a common lock look at and change (``folio->flags``).

The kernel changes each by an atomic bit operation, so each is an object of its own here: one that looks at
whether a folio is dirty commutes with one that makes it somebody's own. Who looks or changes goes by these
functions; only while nobody else can find a folio yet may its raw attributes be set.

PG_anon_exclusive stands for each page; of one folio they are one object here, since a huge leaf speaks for all.
"""

from typing import TYPE_CHECKING

from pagewatch.steps import READ, RMW, access

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio


def is_dirty(folio: "Folio", label: str) -> bool:
    """Whether the folio's contents are newer than what is below it (PG_dirty)."""
    access(("dirty", folio.pfn), READ, label)
    return folio.raw_dirty


def set_dirty(folio: "Folio", label: str) -> None:
    """The contents are newer now; nothing is changed where that is known (``noop_dirty_folio``)."""
    if not is_dirty(folio, label):
        access(("dirty", folio.pfn), RMW, label)
        folio.raw_dirty = True


def clear_dirty(folio: "Folio", label: str) -> None:
    """The contents are about to be written out, or may be dropped."""
    if is_dirty(folio, label):
        access(("dirty", folio.pfn), RMW, label)
        folio.raw_dirty = False


def is_lazy_free(folio: "Folio", label: str) -> bool:
    """Whether the contents may be dropped until they are dirty again (PG_swapbacked is clear)."""
    access(("lazy free", folio.pfn), READ, label)
    return folio.raw_lazy_free


def set_lazy_free(folio: "Folio", label: str) -> None:
    """Let the contents be dropped until they are dirty again (MADV_FREE)."""
    if not is_lazy_free(folio, label):
        access(("lazy free", folio.pfn), RMW, label)
        folio.raw_lazy_free = True


def is_poisoned(folio: "Folio", label: str) -> bool:
    """Whether its memory failed (PG_hwpoison)."""
    access(("poisoned", folio.pfn), READ, label)
    return folio.raw_poisoned


def set_poisoned(folio: "Folio", label: str) -> None:
    """Its memory failed; nothing takes that back."""
    access(("poisoned", folio.pfn), RMW, label)
    folio.raw_poisoned = True


def is_exclusive(folio: "Folio", page: int, label: str, n_pages: int = 1) -> bool:
    """Whether one address space alone maps the page, or one of several from it on (PageAnonExclusive).

    Hugetlb keeps that of the head page only. File pages are never exclusive, which needs no look.
    """
    if not folio.anon:
        return False
    access(("exclusive", folio.pfn), READ, label)
    first = 0 if folio.hugetlb else page
    return not folio.raw_exclusive.isdisjoint(range(first, first + n_pages))


def set_exclusive(folio: "Folio", page: int, label: str, n_pages: int = 1) -> None:
    """One address space alone maps these pages now."""
    access(("exclusive", folio.pfn), RMW, label)
    folio.raw_exclusive.update(range(page, page + n_pages))


def clear_exclusive(folio: "Folio", page: int, label: str, n_pages: int = 1) -> None:
    """Others map these pages, too."""
    access(("exclusive", folio.pfn), RMW, label)
    folio.raw_exclusive.difference_update(range(page, page + n_pages))
