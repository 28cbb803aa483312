"""PAGEMAP_SCAN as it was proposed through most of 2023, before it got its final form.

Some facts about the draft
--------------------------
* Two operations, one or both: GET reports, WP protects. WP alone protects whatever is not protected yet, without a
  look at the masks; the final interface does so, too, but for huge pages and holes, where it looks.
* Four masks over five categories: all of ``required``, any of ``anyof``, none of ``excluded``; ``returned`` is
  reported. There is no inversion, and no WPALLOWED or HUGE.
* A region is a start and a number of pages. Where the walk ended comes back in ``start``.
* It stops as soon as ``max_pages`` are found, right behind the last of them. The final interface walks on to the next
  page that matches, and says that.
* It is stricter: nothing to do, an empty range, no mask that selects or none that returns, and WP alone with a
  limit are EINVAL. Where WRITTEN selects, an area that is not armed is EPERM: the final interface asks for that
  with a flag.
* Part of a hugetlb page cannot be protected: EINVAL where the range cuts it, the end of the walk where the limit
  does. The final interface leaves the page out and goes on.

What an entry is called changed with every version of the draft, and is taken from today's classifier. One version
protected entries of areas that nobody watches; those are left out, as in the final form.

Here are its arguments and the translations; ``draft_walk`` carries a request out.
"""

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pagewatch.model.scan.call import CHECK_WPASYNC, REGION_BYTES, VEC, WP_MATCHING, ScanArg
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import QueryError
from pagewatch.vocab.query import Query

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm

ARG_BYTES = 88
"""``sizeof`` the draft's ``struct pm_scan_arg``: eleven u64."""
OP_GET = 1
"""Report the pages that match."""
OP_WP = 2
"""Protect them."""

SHIFT = 1
"""The draft's bits are today's without WPALLOWED, which is the lowest."""
BITS = 0x1F
"""WRITTEN, FILE, PRESENT, SWAPPED, PFNZERO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftArg:
    """The draft's ``struct pm_scan_arg``, with the end of the range where earlier versions had its length."""

    start: int
    end: int
    flags: int = OP_GET
    vec: int = VEC
    """Address of the vector: only NULL matters here."""
    vec_len: int = 0
    max_pages: int = 0
    required: int = 0
    """Masks are in the draft's bits: WRITTEN is 1."""
    anyof: int = 0
    excluded: int = 0
    returned: int = 0
    size: int = ARG_BYTES


@dataclass(frozen=True, slots=True)
class DraftReply:
    """What the draft's ioctl returns and writes back."""

    result: int
    """Number of regions, or a negative errno."""
    regions: tuple[tuple[int, int, int], ...]
    """Start (bytes), number of pages, and categories in the draft's bits."""
    walk_end: int | None
    """Where the walk ended, as it was written to ``start``; None where argument checks failed."""


def check_args(mm: "Mm", arg: DraftArg) -> int:
    """``pagemap_scan_args_valid``: an errno, or 0."""
    masks = arg.required | arg.anyof | arg.excluded
    if arg.size != ARG_BYTES or not arg.flags or arg.flags & ~(OP_GET | OP_WP) or arg.start == arg.end:
        return errno.EINVAL
    if (masks | arg.returned) & ~BITS or not masks or not arg.returned:
        return errno.EINVAL
    if arg.start & mm.machine.page_bytes - 1:
        return errno.EINVAL
    if not 0 <= arg.start < arg.end <= mm.top:
        return errno.EFAULT
    if arg.flags & OP_GET and (not arg.vec or not arg.vec_len):
        return errno.EINVAL
    if arg.flags & OP_GET and arg.vec + arg.vec_len * REGION_BYTES > mm.top:
        return errno.EFAULT
    return errno.EINVAL if arg.flags == OP_WP and arg.max_pages else 0


def to_final(arg: DraftArg) -> ScanArg | None:
    """The final interface's request for a draft's; None where no page can match.

    WP alone becomes WP_MATCHING without a vector and without masks: so the final interface protects all, too.

    :raises QueryError: masks with other bits than the draft's five.
    """
    if (arg.required | arg.anyof | arg.excluded | arg.returned) & ~BITS:
        raise QueryError("the draft interface knew five categories only")
    required, anyof, excluded, returned = (
        Category(mask << SHIFT) for mask in (arg.required, arg.anyof, arg.excluded, arg.returned)
    )
    armed = CHECK_WPASYNC if (required | anyof | excluded) & Category.WRITTEN else 0
    if not arg.flags & OP_GET:
        return ScanArg(start=arg.start, end=arg.end, query=Query(), flags=WP_MATCHING | armed)
    try:
        query = Query.draft(required=required, anyof=anyof, excluded=excluded, returned=returned)
    except QueryError:
        return None
    return ScanArg(
        start=arg.start,
        end=arg.end,
        query=query,
        flags=armed | (WP_MATCHING if arg.flags & OP_WP else 0),
        vec=arg.vec,
        vec_len=arg.vec_len,
        max_pages=arg.max_pages,
    )


def from_final(arg: ScanArg) -> DraftArg:
    """The draft's request for a final one.

    :raises QueryError: the draft could not say it: an inverted alternative, a category it did not have, WRITTEN
        without CHECK_WPASYNC or the other way round, or nothing that selects or that is returned.
    """
    query, get = arg.query, bool(arg.vec_len)
    if (query.mask | query.anyof | query.returned) >> SHIFT & ~BITS or (query.mask | query.anyof) & Category.WPALLOWED:
        raise QueryError("the draft interface knew only written, file, present, swapped and pfnzero")
    if query.anyof & query.inverted:
        raise QueryError(f"the draft interface knew no inverted alternatives: {query}")
    if not get and query.mask | query.anyof:
        raise QueryError("without a vector the draft interface protected everything")
    armed = bool(arg.flags & CHECK_WPASYNC)
    if not get:
        # Which mask is set decides nothing but whether areas have to be armed.
        mask = int(Category.WRITTEN if armed else Category.PRESENT) >> SHIFT
        return DraftArg(start=arg.start, end=arg.end, flags=OP_WP, vec=arg.vec, required=mask, returned=mask)
    if not query.mask | query.anyof or not query.returned:
        raise QueryError("the draft interface wanted a mask that selects, and one that returns")
    if bool((query.mask | query.anyof) & Category.WRITTEN) is not armed:
        raise QueryError("the draft interface refused areas that are not armed if written selects, and only then")
    mask, inverted = int(query.mask) >> SHIFT, int(query.inverted) >> SHIFT
    return DraftArg(
        start=arg.start,
        end=arg.end,
        flags=OP_GET | (OP_WP if arg.flags & WP_MATCHING else 0),
        vec=arg.vec,
        vec_len=arg.vec_len,
        max_pages=arg.max_pages,
        required=mask & ~inverted,
        anyof=int(query.anyof) >> SHIFT,
        excluded=mask & inverted,
        returned=int(query.returned) >> SHIFT,
    )
