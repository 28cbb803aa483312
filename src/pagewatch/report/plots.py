"""The plots of the HTML report: the heatmap and, below it on the same time axis, the write rate.

Whatever a browser shows of them is drawn from numbers and from escaped text; the scripts are files of
this package and contain nothing of the recording.
"""

from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import (
    ColumnDataSource,
    CrosshairTool,
    CustomJSHover,
    CustomJSTicker,
    CustomJSTickFormatter,
    HoverTool,
    InlineStyleSheet,
    LinearAxis,
    LinearColorMapper,
    Range1d,
)
from bokeh.models.annotations.geometry import Span
from bokeh.plotting import figure

from pagewatch.report import captions, scale
from pagewatch.report.values import Figures
from pagewatch.vocab import wording

N_COLOURS = 255
_MAP_HEIGHT = 480
_RATE_HEIGHT = 170
_LEFT, _RIGHT = 180, 112
"""Room for axes, pixels; equal in both plots, so that their times line up."""
_MOST_PIXELS = 1200
_TIME_TOOLS = "xpan,xwheel_zoom,reset"
_MAP_TOOLS = "pan,box_zoom,wheel_zoom,undo,reset"


def plots(figures: Figures) -> tuple[Any, Any]:
    """The heatmap and the rate plot (bokeh figures named ``heatmap`` and ``rate``), linked in time.

    :param figures: with at least one page write.
    """
    seconds = figures.timeline.edges_ns / 1e9
    time = Range1d(start=0, end=seconds[-1], bounds=(0, seconds[-1]), min_interval=seconds[-1] / 1e4)
    crosshair = Span(dimension="height", line_width=1, line_alpha=0.5, line_color="#888888")
    upper = _heatmap(figures, seconds, time)
    lower = _rate(figures, seconds, time)
    for plot in (upper, lower):
        plot.add_tools(CrosshairTool(overlay=crosshair))
    return upper, lower


def _heatmap(figures: Figures, seconds: npt.NDArray[np.float64], time: Any) -> Any:
    heatmap = figures.heatmap
    n_rows = len(heatmap.row_start)
    rows = Range1d(start=n_rows, end=0, bounds=(0, n_rows), min_interval=min(4, n_rows))
    plot = _figure("heatmap", _MAP_HEIGHT, _MAP_TOOLS, time, rows)
    mapper = LinearColorMapper(
        palette=["#00000000", *scale.colours(scale.DARK, N_COLOURS)], low=0, high=N_COLOURS + 1, name="heat"
    )
    image = plot.image(
        "image",
        source=ColumnDataSource(_image(figures, seconds)),
        x=0,
        y=0,
        dw=seconds[-1],
        dh=n_rows,
        color_mapper=mapper,
    )
    _cut_lines(plot, figures, seconds[-1])
    bands = heatmap.bands()
    names = {
        "first": [first for _, first, _ in bands],
        "band_end": [end for _, _, end in bands],
        "label": [_band_name(figures, index) for index, _, _ in bands],
        "height": _MAP_HEIGHT,
    }
    plot.yaxis.ticker = CustomJSTicker(args=names, major_code=_script("band_ticks"))
    plot.yaxis.formatter = CustomJSTickFormatter(args=names, code=_script("band_names"))
    starts = {"starts": [f"{start:x}" for start in heatmap.row_start.tolist()]}
    addresses: Any = LinearAxis(name="addresses")
    addresses.formatter = CustomJSTickFormatter(args=starts, code=_script("addresses"))
    plot.add_layout(addresses, "right")
    plot.add_tools(_heat_hover(image, figures, seconds))
    return plot


def _band_name(figures: Figures, index: int) -> str:
    mapping = figures.mappings[index]
    many = len(figures.processes) > 1
    return captions.name(mapping, 19 if many else 25) + (f" · {mapping.pid}" if many else "")


def _image(figures: Figures, seconds: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Levels as bytes, 0 for nothing: columns resampled to equal widths, since a picture has no others."""
    levels = scale.levels(figures.heatmap.density)
    coded = np.where(np.isnan(levels), 0, 1 + np.rint(np.nan_to_num(levels) * (N_COLOURS - 1))).astype(np.uint8)
    n_pixels = _n_pixels(seconds)
    middles = (np.arange(n_pixels) + 0.5) * seconds[-1] / n_pixels
    column = np.clip(np.searchsorted(seconds, middles, side="right") - 1, 0, len(figures.timeline) - 1)
    return {"image": [np.ascontiguousarray(coded[:, column])]}


def _n_pixels(seconds: npt.NDArray[np.float64]) -> int:
    """As many equal widths as it takes to show the shortest column, within reason."""
    widths = np.diff(seconds)
    shortest = float(widths[widths > 0].min(initial=seconds[-1]))
    return int(min(max(2 * seconds[-1] / shortest, 2 * len(widths)), _MOST_PIXELS))


def _cut_lines(plot: Any, figures: Figures, end: float) -> None:
    """A dashed line where memory is cut out, a full one where another mapping begins."""
    heatmap = figures.heatmap
    firsts = {first for _, first, _ in heatmap.bands()}
    cuts = _apart([row for row in np.flatnonzero(heatmap.cuts).tolist() if row not in firsts], len(heatmap.row_start))
    for rows, dash in ((heatmap.borders(), "solid"), (cuts, "4 3")):
        if rows:
            plot.segment(0, rows, end, rows, line_color="#8886a0", line_alpha=0.55, line_width=1, line_dash=dash)


def _apart(rows: list[int], n_rows: int) -> list[int]:
    """Those of the rows that are far enough from their neighbours for lines not to become a pattern of its own."""
    least = n_rows // 60
    edges = [-least - 1, *rows, n_rows + least + 1]
    return [row for above, row, below in zip(edges, rows, edges[2:], strict=False) if row - above > least < below - row]


def _heat_hover(image: Any, figures: Figures, seconds: npt.NDArray[np.float64]) -> HoverTool:
    heatmap = figures.heatmap
    others = heatmap.row_blocks - 1
    mappings = [figures.mappings[index] for index in heatmap.row_mapping.tolist()]
    data = {
        "name": [
            wording.printable(mapping.label) + (f" and {n} more" if n else "")
            for mapping, n in zip(mappings, others.tolist(), strict=True)
        ],
        "process": [captions.process(mapping) for mapping in mappings],
        "addresses": [
            wording.addresses(start, end)
            for start, end in zip(heatmap.row_start.tolist(), heatmap.row_end.tolist(), strict=True)
        ],
        # As what a browser counts in: a row of a hostile recording may claim more than 2^53 pages.
        "pages": heatmap.row_pages.astype(np.float64),
    }
    cells = ColumnDataSource({"page_writes": [_smallest(heatmap.page_writes)], "rounds": [heatmap.rounds.astype("i4")]})
    formatter = CustomJSHover(
        args={"rows": ColumnDataSource(data), "cells": cells, "edges": seconds.tolist()}, code=_script("cell")
    )
    fields = {"mapping": "name", "process": "process", "addresses": "addresses", "time": "time", "written": "written"}
    return HoverTool(
        renderers=[image],
        tooltips=[(title, f"$x{{{field}}}") for title, field in fields.items()],
        formatters={"$x": formatter},
        attachment="horizontal",
    )


def _rate(figures: Figures, seconds: npt.NDArray[np.float64], time: Any) -> Any:
    timeline, page = figures.timeline, figures.header.page_size
    rates = timeline.page_writes_per_s * page
    peak = float(rates.max())
    power = min(int(np.log2(max(peak, 1))) // 10, 4)
    unit = ("B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s")[power]
    heights = rates / 1024.0**power
    top = float(heights.max()) * 1.08
    plot = _figure("rate", _RATE_HEIGHT, _TIME_TOOLS, time, Range1d(start=0, end=top, bounds=(0, top)))
    plot.yaxis.axis_label = unit
    plot.xaxis.axis_label = "seconds since the recording began"
    data = {
        "left": seconds[:-1],
        "right": seconds[1:],
        "top": heights,
        "rate": [f"{wording.size(rate)}/s" for rate in rates],
        "unique": [_pages(n, page) for n in timeline.unique_pages.tolist()],
        "so_far": [_pages(n, page) for n in timeline.pages_so_far.tolist()],
    }
    bars = plot.quad("left", "right", "top", 0, source=ColumnDataSource(data), line_width=0.5, name="bars")
    plot.add_tools(
        HoverTool(
            renderers=[bars],
            mode="vline",
            tooltips=[
                ("time", "@left{0.00} – @right{0.00} s"),
                ("rate", "@rate"),
                ("written", "@unique"),
                ("written so far", "@so_far"),
            ],
            attachment="vertical",
        )
    )
    return plot


def _figure(name: str, height: int, tools: str, x_range: Any, y_range: Any) -> Any:
    plot = figure(
        name=name,
        height=height,
        sizing_mode="stretch_width",
        tools=tools,
        active_scroll="xwheel_zoom" if "xwheel_zoom" in tools else "wheel_zoom",
        active_drag="xpan" if "xpan" in tools else "box_zoom",
        x_range=x_range,
        y_range=y_range,
        min_border_left=_LEFT,
        min_border_right=_RIGHT,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        toolbar_location="above" if name == "heatmap" else None,
        stylesheets=[InlineStyleSheet(css=_page_file("plot.css"))],
    )
    plot.toolbar.logo = None
    plot.grid.visible = False
    return plot


def _pages(n_pages: int, page_size: int) -> str:
    return f"{wording.size(n_pages * page_size)} ({n_pages:,} pages)"


def _smallest(values: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """As the smallest unsigned type that holds all of them and that a browser knows; beyond, as floats."""
    peak = int(values.max(initial=0))
    kinds = [np.dtype(name) for name in ("u1", "u2", "u4")]
    kind = next((kind for kind in kinds if peak <= np.iinfo(kind).max), np.dtype("f8"))
    return np.ascontiguousarray(values, kind)


def _script(name: str) -> str:
    return _page_file(f"{name}.js")


def _page_file(name: str) -> str:
    return resources.files("pagewatch.report").joinpath("page", name).read_text(encoding="utf-8")
