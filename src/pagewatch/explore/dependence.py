"""Which steps of different threads depend on each other, and which of those could have come in the other order.

All that a search may leave out rests on this relation: two adjacent steps that do not conflict can be
swapped and nobody can tell. It knows no more than what was announced, so a program must announce every
shared object that a step touches; what happens after an announcement and before the next belongs to it.
"""

from collections.abc import Hashable
from typing import NamedTuple

from pagewatch.steps import Kind, Whole

_LOOKING = frozenset({Kind.READ, Kind.WAIT})
_SHARING = frozenset({Kind.LOCK_SHARED, Kind.UNLOCK_SHARED})
_ACQUIRING = frozenset({Kind.LOCK, Kind.LOCK_SHARED})
_RELEASING = frozenset({Kind.UNLOCK, Kind.UNLOCK_SHARED})


class Access(NamedTuple):
    """What a step does."""

    key: Hashable
    kind: Kind
    waits: bool = False
    """Whether it may have to wait for its turn; an attempt that would rather fail does not."""


def overlap(one: Hashable, other: Hashable) -> bool:
    """Whether two keys have an object in common: they are equal, or one is part of what the other is the whole of."""
    return one == other or (type(one) is Whole and one.has(other)) or (type(other) is Whole and other.has(one))


def conflict(one: Access, other: Access) -> bool:
    """Whether the order of two accesses of different threads matters.

    Those that only look commute, and so do readers that enter and leave a shared lock: between them,
    nobody else's attempt could turn out differently.
    """
    if not overlap(one.key, other.key):
        return False
    return not ((one.kind in _LOOKING and other.kind in _LOOKING) or (one.kind in _SHARING and other.kind in _SHARING))


def reversible(earlier: Access, later: Access) -> bool:
    """Whether the later of two conflicting accesses could come first.

    Who waits for a lock cannot get it before its release: there is no other order of those two. The race
    is between the two acquisitions. Who only looks at a lock may be content before: its condition decides.
    """
    return not (later.waits and later.kind in _ACQUIRING and earlier.kind in _RELEASING)
