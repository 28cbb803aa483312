"""The heatmap of the text report: address by time in letters, or in half-blocks where there are colours."""

from collections.abc import Iterator

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from pagewatch.report import captions, scale
from pagewatch.report.intervals import I64
from pagewatch.report.values import Figures
from pagewatch.vocab import wording

_LABEL_WIDTH, _NARROW_LABEL_WIDTH = 23, 17
"""With ``[anon]``, an address and a ``+9``; and, where there are fewer letters, without the first."""
_NARROW = 72
_N_LINES = 28
_LEAST_WIDTH = 16
_SHADES = "·░▒▓█"
_SHADE_BOUNDS = (0.001, 0.01, 0.1, 0.5)
"""Densities from which the next shade is used."""
_LEGEND = "  pages written per collect:"
_SPARKS = "▁▂▃▄▅▆▇█"


def grid_size(width: int, *, in_colour: bool) -> tuple[int, int]:
    """Rows and columns of the figures that :func:`heatmap` can show in ``width`` letters."""
    return _N_LINES * (2 if in_colour else 1), max(width - _label_width(width) - 3, _LEAST_WIDTH)


def _letters(n_columns: int, width: int) -> I64:
    """How many letters each column of time takes, so that all together fill the width; one at least."""
    return np.diff(np.arange(n_columns + 1) * max(width, n_columns) // max(n_columns, 1))


def _label_width(width: int) -> int:
    return _LABEL_WIDTH if width >= _NARROW else _NARROW_LABEL_WIDTH


def heatmap(figures: Figures, width: int, *, in_colour: bool) -> RenderableType:
    """Lines of the map with names at the left, time below, and a legend.

    :param width: letters; ``in_colour``: two rows a line as coloured half-blocks, else a shade a row.
    """
    letters = _letters(len(figures.timeline), grid_size(width, in_colour=in_colour)[1])
    cells = _Colours(figures) if in_colour else _Shades(figures)
    left = _label_width(width)
    lines: list[Text] = []
    process = None
    for mapping_index, first, end in figures.heatmap.bands():
        mapping = figures.mappings[mapping_index]
        if mapping.pid != process and len(figures.processes) > 1:
            lines.append(Text(f"  {wording.shorten(captions.process(mapping), width - 2)}", "bold"))
        process = mapping.pid
        labels = _labels(figures, mapping_index, first, end, left)
        for number, row in enumerate(range(first, end, cells.rows_per_line)):
            label = labels[number] if number < len(labels) else ""
            line = Text(no_wrap=True).append(f"{label:>{left}} ", "dim" if number else "")
            line.append("│" if number else "┤", "dim")
            lines.append(line.append_text(cells.line(row, min(row + cells.rows_per_line, end), letters)))
    lines += [*_time_axis(figures, letters, left), _rate(figures, letters, left), Text(), cells.legend(width)]
    return Group(*lines)


class _Shades:
    """A row is a line of shade letters."""

    rows_per_line = 1

    def __init__(self, figures: Figures) -> None:
        density = figures.heatmap.density
        letters = np.array(list(" " + _SHADES))
        self._letters = letters[(density > 0) + np.searchsorted(_SHADE_BOUNDS, density, side="right")]

    def line(self, first: int, end: int, letters: I64) -> Text:
        return Text("\n".join("".join(np.repeat(row, letters)) for row in self._letters[first:end]))

    def legend(self, width: int) -> Text:
        keys = [_LEGEND.strip(), f"{_SHADES[0]} <{_tick(_SHADE_BOUNDS[0])}"]
        keys += [f"{shade} ≥{_tick(bound)}" for shade, bound in zip(_SHADES[1:], _SHADE_BOUNDS, strict=True)]
        lead = _LEGEND[: -len(keys[0])]
        return Text("\n".join(lead + line for line in wording.flow(keys, "  ", width - len(lead))))


class _Colours:
    """Two rows are a line of half-blocks: the upper in the letter's colour, the lower in its ground."""

    rows_per_line = 2
    _N_COLOURS = 64

    def __init__(self, figures: Figures) -> None:
        self._colours = scale.colours(scale.DARK, self._N_COLOURS)
        levels = scale.levels(figures.heatmap.density)
        self._index = np.where(np.isnan(levels), -1, np.nan_to_num(levels) * (self._N_COLOURS - 1)).astype(int)

    def line(self, first: int, end: int, letters: I64) -> Text:
        upper = self._index[first].tolist()
        lower = self._index[end - 1].tolist()
        text = Text()
        for above, below, n_letters in zip(upper, lower, letters.tolist(), strict=True):
            text.append(*self._cell(above, below, n_letters))
        return text

    def legend(self, _: int) -> Text:
        legend = Text.assemble((f"{_LEGEND} ", "dim"))
        for number, tick in enumerate(scale.TICKS):
            legend.append(f"{'' if number else '≤ '}{_tick(tick)} ")
            if number + 1 < len(scale.TICKS):
                low, high = scale.levels(np.array(scale.TICKS[number : number + 2]))
                for place in np.linspace(low, high, 6):
                    legend.append("█", self._colours[int(place * (self._N_COLOURS - 1))])
                legend.append(" ")
        return legend

    def _cell(self, above: int, below: int, n_letters: int) -> tuple[str, str]:
        if above < 0 and below < 0:
            return " " * n_letters, ""
        if above < 0:
            return "▄" * n_letters, self._colours[below]
        if below < 0:
            return "▀" * n_letters, self._colours[above]
        return "▀" * n_letters, f"{self._colours[above]} on {self._colours[below]}"


def _labels(figures: Figures, mapping_index: int, first: int, end: int, left: int) -> list[str]:
    """What stands left of a mapping's lines: its name, then its size."""
    mapping = figures.mappings[mapping_index]
    others = int(figures.heatmap.row_blocks[first:end].max()) - 1
    more = f" +{others}" if others else ""
    name = captions.name(mapping, left - len(more)) + more
    return [name, wording.size(mapping.writable_pages * figures.header.page_size)]


def _time_axis(figures: Figures, letters: I64, left: int) -> Iterator[Text]:
    edges_ns = figures.timeline.edges_ns
    ends = np.append(0, np.cumsum(letters)).tolist()
    width = ends[-1]
    rule, names = ["─"] * width, [" "] * (width + left)
    n_ticks = max(width // 18, 1)
    free = 0
    for column in sorted({round(tick * len(figures.timeline) / n_ticks) for tick in range(n_ticks + 1)}):
        at = min(ends[column], width - 1)
        name = wording.duration(int(edges_ns[column])) if column else "0"
        start = max(min(at - len(name) // 2, width - len(name)), 0)
        rule[at] = "┴"
        if start >= free:
            names[start : start + len(name)] = name
            free = start + len(name) + 1
    yield Text(" " * (left + 1) + "└" + "".join(rule), "dim", no_wrap=True)
    yield Text(" " * (left + 2) + "".join(names).rstrip(), "dim", no_wrap=True)


def _rate(figures: Figures, letters: I64, left: int) -> Text:
    """Pages written a second, as a line of bars."""
    rates = figures.timeline.page_writes_per_s
    peak = float(rates.max(initial=0.0))
    eighths = np.ceil(rates / peak * len(_SPARKS)).astype(int) if peak else np.zeros(len(rates), int)
    bars = np.array(list(" " + _SPARKS))[eighths]
    label = f"≤ {wording.size(peak * figures.header.page_size)}/s"
    return Text.assemble(
        (f"{label:>{left}} ", ""), ("┤", "dim"), ("".join(np.repeat(bars, letters)), "cyan"), no_wrap=True
    )


def _tick(share: float) -> str:
    return f"{share * 100:g} %"
