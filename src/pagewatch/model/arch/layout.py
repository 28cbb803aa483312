"""The tables that describe one level: where it stands, its bits when present, its bits when not."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Where a level stands and what fits there; the fields are those of :class:`~.format.EntryFormat`."""

    arch: str
    """Key in ``ARCHES``, for error messages."""
    name: str
    level: int
    page_shift: int
    shift: int
    index_bits: int
    entry_bytes: int = 8
    leaf_sizes: tuple[int, ...] = ()
    directory_sizes: tuple[int, ...] = ()
    physical_bits: int = 52
    """Bits of a physical address that an entry can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafBits:
    """The bits of a present leaf."""

    present: int
    """Any of these makes an entry present."""
    base: int
    """Set in every leaf of the level, ``present`` aside."""
    set_by: dict[int, int] = field(default_factory=dict)
    """Flag to the mask that is set with it."""
    cleared_by: dict[int, int] = field(default_factory=dict)
    """Flag to the mask that is set without it (read-only, no-execute)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapBits:
    """The bits of a non-present entry."""

    type_shift: int
    offset_shift: int
    offset_bits: int
    exclusive: int = 0
    soft_dirty: int = 0
    uffd_wp: int = 0
    pfn_bits: int = 0
    """``SWP_PFN_BITS``: how much of the offset is the frame number; young and dirty of a migration follow."""
