"""The heatmap of the text report: address by time in letters, or in half-blocks where there are colours."""

from collections.abc import Iterator

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from pagewatch.report import scale, wording
from pagewatch.report.values import Figures

_LABEL_WIDTH = 20
_N_LINES = 28
_LEAST_WIDTH = 16
_SHADES = "·░▒▓█"
_SHADE_BOUNDS = (0.001, 0.01, 0.1, 0.5)
"""Densities from which the next shade is used."""
_LEGEND = "  of the pages, per collect"
_SPARKS = "▁▂▃▄▅▆▇█"


def grid_size(width: int, *, in_colour: bool) -> tuple[int, int]:
    """Rows and columns of the figures that :func:`heatmap` can show in ``width`` letters."""
    return _N_LINES * (2 if in_colour else 1), max(width - _LABEL_WIDTH - 3, _LEAST_WIDTH)


def heatmap(figures: Figures, width: int, *, in_colour: bool) -> RenderableType:
    """Lines of the map with names at the left, time below, and a legend.

    :param width: letters; ``in_colour``: two rows a line as coloured half-blocks, else a shade a row.
    """
    stretch = max(grid_size(width, in_colour=in_colour)[1] // len(figures.timeline), 1)
    cells = _Colours(figures) if in_colour else _Shades(figures)
    lines: list[Text] = []
    process = None
    for mapping_index, first, end in figures.heatmap.bands():
        mapping = figures.mappings[mapping_index]
        if mapping.pid != process and len(figures.processes) > 1:
            lines.append(Text(f"  {wording.shorten(wording.process(mapping), width - 2)}", "bold"))
        process = mapping.pid
        labels = _labels(figures, mapping_index, first, end)
        for number, row in enumerate(range(first, end, cells.rows_per_line)):
            label = labels[number] if number < len(labels) else ""
            line = Text(no_wrap=True).append(f"{label:>{_LABEL_WIDTH}} ", "dim" if number else "")
            line.append("│" if number else "┤", "dim")
            lines.append(line.append_text(cells.line(row, min(row + cells.rows_per_line, end), stretch)))
    lines += [*_time_axis(figures, stretch), _rate(figures, stretch), Text(), cells.legend()]
    return Group(*lines)


class _Shades:
    """A row is a line of shade letters."""

    rows_per_line = 1

    def __init__(self, figures: Figures) -> None:
        density = figures.heatmap.density
        letters = np.array(list(" " + _SHADES))
        self._letters = letters[(density > 0) + np.searchsorted(_SHADE_BOUNDS, density, side="right")]

    def line(self, first: int, end: int, stretch: int) -> Text:
        return Text("\n".join("".join(np.repeat(row, stretch)) for row in self._letters[first:end]))

    def legend(self) -> Text:
        legend = Text("  ", "dim").append(f"{_SHADES[0]} less", "default")
        for shade, bound in zip(_SHADES[1:], _SHADE_BOUNDS, strict=True):
            legend.append(f"  {shade} from {_tick(bound)}", "default")
        return legend.append(_LEGEND)


class _Colours:
    """Two rows are a line of half-blocks: the upper in the letter's colour, the lower in its ground."""

    rows_per_line = 2
    _N_COLOURS = 64

    def __init__(self, figures: Figures) -> None:
        self._colours = scale.colours(scale.DARK, self._N_COLOURS)
        levels = scale.levels(figures.heatmap.density)
        self._index = np.where(np.isnan(levels), -1, np.nan_to_num(levels) * (self._N_COLOURS - 1)).astype(int)

    def line(self, first: int, end: int, stretch: int) -> Text:
        upper = self._index[first].tolist()
        lower = self._index[end - 1].tolist()
        text = Text()
        for above, below in zip(upper, lower, strict=True):
            text.append(*self._cell(above, below, stretch))
        return text

    def legend(self) -> Text:
        legend = Text("  ")
        for number, tick in enumerate(scale.TICKS):
            legend.append(f"{'' if number else '≤ '}{_tick(tick)} ")
            if number + 1 < len(scale.TICKS):
                low, high = scale.levels(np.array(scale.TICKS[number : number + 2]))
                for place in np.linspace(low, high, 6):
                    legend.append("█", self._colours[int(place * (self._N_COLOURS - 1))])
                legend.append(" ")
        return legend.append(_LEGEND, "dim")

    def _cell(self, above: int, below: int, stretch: int) -> tuple[str, str]:
        if above < 0 and below < 0:
            return " " * stretch, ""
        if above < 0:
            return "▄" * stretch, self._colours[below]
        if below < 0:
            return "▀" * stretch, self._colours[above]
        return "▀" * stretch, f"{self._colours[above]} on {self._colours[below]}"


def _labels(figures: Figures, mapping_index: int, first: int, end: int) -> list[str]:
    """What stands left of a mapping's lines: its name, then its size."""
    mapping = figures.mappings[mapping_index]
    others = int(figures.heatmap.row_blocks[first:end].max()) - 1
    more = f" +{others}" if others else ""
    name = wording.shorten(mapping.label, _LABEL_WIDTH - len(more)) + more
    return [name, wording.size(mapping.writable_pages * figures.header.page_size)]


def _time_axis(figures: Figures, stretch: int) -> Iterator[Text]:
    edges_ns = figures.timeline.edges_ns
    width = len(figures.timeline) * stretch
    rule, names = ["─"] * width, [" "] * (width + _LABEL_WIDTH)
    n_ticks = max(width // 18, 1)
    free = 0
    for column in sorted({round(tick * len(figures.timeline) / n_ticks) for tick in range(n_ticks + 1)}):
        at = min(column * stretch, width - 1)
        name = wording.duration(int(edges_ns[column])) if column else "0"
        start = max(min(at - len(name) // 2, width - len(name)), 0)
        rule[at] = "┴"
        if start >= free:
            names[start : start + len(name)] = name
            free = start + len(name) + 1
    yield Text(" " * (_LABEL_WIDTH + 1) + "└" + "".join(rule), "dim", no_wrap=True)
    yield Text(" " * (_LABEL_WIDTH + 2) + "".join(names).rstrip(), "dim", no_wrap=True)


def _rate(figures: Figures, stretch: int) -> Text:
    """Pages written a second, as a line of bars."""
    rates = figures.timeline.page_writes_per_s
    peak = float(rates.max(initial=0.0))
    eighths = np.ceil(rates / peak * len(_SPARKS)).astype(int) if peak else np.zeros(len(rates), int)
    bars = np.array(list(" " + _SPARKS))[eighths]
    label = f"≤ {wording.size(peak * figures.header.page_size)}/s"
    return Text.assemble(
        (f"{label:>{_LABEL_WIDTH}} ", ""), ("┤", "dim"), ("".join(np.repeat(bars, stretch)), "cyan"), no_wrap=True
    )


def _tick(share: float) -> str:
    return f"{share * 100:g} %"
