"""The tables that describe one level: where it stands, its bits when present, its bits when not."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where a level stands and what fits there; most fields are those of :class:`~.format.EntryFormat`."""

    arch: str
    """Key in ``ARCHES``, for error messages."""
    name: str
    level: int
    page_shift: int
    shift: int
    index_bits: int
    pfn_mask: int
    """The bits of a leaf that hold the frame number."""
    pfn_shift: int
    """Where bit 0 of a frame number would stand, also when ``pfn_mask`` leaves it out."""
    entry_bytes: int = 8
    empty: int = 0
    leaf_sizes: tuple[int, ...] = ()

    @property
    def span_bytes(self) -> int:
        """Bytes that one entry covers."""
        return 1 << self.shift


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafBits:
    """The bits of a present leaf."""

    present: int
    """Any of these makes an entry present."""
    base: int
    """Set in every leaf of the level that hardware may use."""
    set_by: Mapping[int, int] = field(default_factory=dict)
    """Flag to the mask that is set with it."""
    cleared_by: Mapping[int, int] = field(default_factory=dict)
    """Flag to the mask that is set without it (read-only, no-execute)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapBits:
    """The bits of a non-present entry."""

    type_shift: int
    offset_shift: int
    offset_bits: int
    pfn_bits: int
    """``SWP_PFN_BITS``: how much of the offset is the frame number; young and dirty of a migration follow."""
    base: int = 0
    """Set in every non-present entry."""
    exclusive: int = 0
    soft_dirty: int = 0
    uffd_wp: int = 0


def bits(high: int, low: int) -> int:
    """The mask of bits ``low`` to ``high``, both included (``GENMASK``)."""
    return (1 << high + 1) - (1 << low)
