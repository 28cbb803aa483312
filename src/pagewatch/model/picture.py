"""Pictures of page tables: the entries that decide a range, level by level, as text and as SVG."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pagewatch.model.arch.format import KIND_NAMES, NONE, TABLE
from pagewatch.model.explain import entry_words

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm
    from pagewatch.model.tables import Table

_ROW_PX = 26
_COLUMN_PX = 90
_BOX_PX = 430
_FILLS = {"table": "#e8eef7", "leaf": "#d9f0dd", "swap": "#f7ead2", "marker": "#f5dcdc"}
_OTHER_FILL = "#eeeeee"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Row(NamedTuple):
    """One entry of the picture, or a run of empty ones."""

    depth: int
    """0 in the root table."""
    level: str
    """The kernel's name of the level."""
    slot: int
    address: int
    """Where its span begins, bytes."""
    kind: str
    words: str


def rows(mm: "Mm", start: int, end: int) -> list[Row]:
    """The entries that decide [start, end) (bytes), top down and ascending; runs of empty ones are one row."""
    return list(_rows_below(mm, mm.root, start, end, 0))


def text(mm: "Mm", start: int, end: int) -> str:
    """The picture as an indented tree."""
    return "\n".join(
        f"{'  ' * row.depth}{row.level}[{row.slot}] {row.address:#x}: {row.words}" for row in rows(mm, start, end)
    )


def svg(mm: "Mm", start: int, end: int) -> str:
    """The picture as a self-contained SVG image: a box for each entry, a column for each level."""
    picture = rows(mm, start, end)
    depth = max((row.depth for row in picture), default=0)
    width, height = depth * _COLUMN_PX + _BOX_PX + 2, len(picture) * _ROW_PX + 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="monospace" font-size="12">'
    ]
    parents: list[int] = []
    for number, row in enumerate(picture):
        del parents[row.depth :]
        parts.append(_box(row, number))
        if parents:
            parts.append(_line(row.depth, parents[-1], number))
        parents.append(number)
    return "\n".join([*parts, "</svg>"])


def _rows_below(mm: "Mm", table: "Table", start: int, end: int, depth: int) -> Iterator[Row]:
    fmt = table.fmt
    span = 1 << fmt.shift
    empty_from = -1
    for address in range(start & -span, end, span):
        slot = fmt.index(address)
        entry = table.entries.get(slot, 0)
        kind = fmt.kind(entry)
        if kind == NONE:
            empty_from = address if empty_from < 0 else empty_from
            if address + span < end:
                continue
        if empty_from >= 0:
            behind = address + span if kind == NONE else address
            n_empty = behind - empty_from >> fmt.shift
            words = "empty" if n_empty == 1 else f"{n_empty} empty entries"
            yield Row(depth, fmt.name, fmt.index(empty_from), empty_from, KIND_NAMES[NONE], words)
            empty_from = -1
        if kind != NONE:
            yield Row(depth, fmt.name, slot, address, KIND_NAMES[kind], entry_words(fmt, entry))
        if kind == TABLE:
            below = mm.machine.tables.below(table, entry)
            yield from _rows_below(mm, below, max(start, address), min(end, address + span), depth + 1)


def _box(row: Row, number: int) -> str:
    x, y = row.depth * _COLUMN_PX + 1, number * _ROW_PX + 1
    label = f"{row.level}[{row.slot}] {row.words}".translate(_ESCAPES)
    fill = _FILLS.get(row.kind, _OTHER_FILL)
    return (
        f'<g><title>{row.address:#x}</title><rect x="{x}" y="{y}" width="{_BOX_PX}" height="{_ROW_PX - 4}" '
        f'rx="3" fill="{fill}" stroke="#667"/><text x="{x + 6}" y="{y + 15}">{label}</text></g>'
    )


def _line(depth: int, parent: int, number: int) -> str:
    x = (depth - 1) * _COLUMN_PX + _COLUMN_PX // 2
    top, bottom = (parent + 1) * _ROW_PX - 3, number * _ROW_PX + _ROW_PX // 2
    return f'<path d="M{x} {top} V{bottom} H{depth * _COLUMN_PX + 1}" fill="none" stroke="#667"/>'
