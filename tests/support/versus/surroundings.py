"""Where histories take place: an arena, and what the machine has to have meanwhile."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple

from support.hugepages import hugetlb_pages
from support.machine import swapping
from support.versus.outcomes import LARGE, SMALL, Arena

_POOL_PAGES = 24
"""Hugetlb pages: more than all processes of a history can map, so none is ever missing."""


class Surroundings(NamedTuple):
    """An arena, and how to prepare the machine for it; preparing skips where that cannot be done."""

    name: str
    arena: Arena
    prepared: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def changes_machine(self) -> bool:
        """Whether others have to wait until it is over."""
        return self.prepared is not nullcontext


def _all() -> dict[str, Surroundings]:
    pool = partial(hugetlb_pages, _POOL_PAGES, size=1 << 21)
    found = (
        Surroundings("small", SMALL),
        Surroundings("large", LARGE),
        Surroundings("small, swap", SMALL._replace(swap=True), swapping),
        Surroundings("large, swap", LARGE._replace(swap=True), swapping),
        Surroundings("large, hugetlb", LARGE._replace(pool=True), pool),
    )
    return {each.name: each for each in found}


ALL = _all()
"""By name."""
