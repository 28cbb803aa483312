"""How an attempt to collapse ends, and which errno MADV_COLLAPSE makes of it (``enum scan_result``)."""

import errno
from enum import Enum


class Result(Enum):
    """Outcome for one huge page's range."""

    SUCCEED = "collapsed"
    PMD_MAPPED = "huge already"
    PTE_MAPPED_HUGEPAGE = "the page cache has a huge page, the area still maps it by small entries"
    NO_DIRECTORY = "nothing is mapped there, and there is not even a table above"
    NO_TABLE = "nothing is mapped there"
    EXCEED_NONE_PTE = "too many empty entries, or a userfaultfd watches them"
    EXCEED_SWAP_PTE = "too much of it is swapped out"
    EXCEED_SHARED_PTE = "too much of it is shared"
    PTE_NON_PRESENT = "an entry is neither empty nor present"
    PTE_UFFD_WP = "a userfaultfd protects it"
    PAGE_RO = "no entry may be written through, as kernels before 6.18 demanded"
    PAGE_NULL = "an entry maps no ordinary page"
    PAGE_ANON = "a private area maps a page that is not its own"
    PAGE_COUNT = "somebody else holds a page"
    PAGE_LOCK = "a page is locked"
    PAGE_FILLED = "a hole of the file was filled meanwhile"
    TRUNCATED = "the file holds nothing there"
    VMA_CHECK = "the area is gone, has changed, or cannot have huge pages"
    FAIL = "something else changed meanwhile"

    @property
    def done(self) -> bool:
        """Whether the range is huge now."""
        return self in (Result.SUCCEED, Result.PMD_MAPPED)

    @property
    def goes_on(self) -> bool:
        """Whether MADV_COLLAPSE tries the ranges behind this one, too."""
        return self.done or self in _SOFT

    @property
    def errno(self) -> int:
        """What MADV_COLLAPSE says of a failure (``madvise_collapse_errno``)."""
        if self is Result.EXCEED_NONE_PTE:
            return errno.EBUSY
        return errno.EAGAIN if self in _TRY_AGAIN else errno.EINVAL


_SOFT = frozenset(
    {
        Result.NO_DIRECTORY,
        Result.PTE_NON_PRESENT,
        Result.PTE_UFFD_WP,
        Result.PAGE_RO,
        Result.PAGE_NULL,
        Result.PAGE_COUNT,
        Result.PAGE_LOCK,
    }
)
_TRY_AGAIN = frozenset({Result.PAGE_COUNT, Result.PAGE_LOCK, Result.PAGE_FILLED})
