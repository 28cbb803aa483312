"""What every kind of collapse asks first: is the area still right, and is there a table."""

from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, NONE, TABLE
from pagewatch.model.collapse.result import Result
from pagewatch.model.thp import Purpose, huge_start, may_have_huge
from pagewatch.model.walk import Spot, seek_level

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.vma import Vma


def revalidate(mm: "Mm", start: int, purpose: Purpose) -> "Vma | None":
    """The area of a huge page's range, if it may be huge (``hugepage_vma_revalidate``).

    For whoever holds the mmap lock; to be asked again whenever that was dropped.
    """
    vma = None if mm.dead else mm.vmas.at(start)
    if vma is None or huge_start(mm, vma, start) != start or not may_have_huge(mm, vma, purpose):
        return None
    return vma


def find_directory(mm: "Mm", start: int) -> tuple[Spot, Result]:
    """The directory entry of a range, and SUCCEED if a PTE table hangs there (``find_pmd_or_thp_or_none``)."""
    spot = seek_level(mm, start, 1, "collapse: find")
    return spot, _RESULTS.get(spot.kind, Result.FAIL) if spot.level == 1 else Result.NO_DIRECTORY


_RESULTS = {TABLE: Result.SUCCEED, NONE: Result.NO_TABLE, LEAF: Result.PMD_MAPPED}
