"""The report as a picture: heatmap and write rate, for a page or a paper."""

import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from pagewatch.report import captions, scale
from pagewatch.report.values import Figures
from pagewatch.vocab import wording
from pagewatch.vocab.errors import FeatureMissing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZE_INCHES = (12.8, 7.2)
_DPI = 150
_PAGE, _GROUND, _INK, _SOFT, _LINE, _ACCENT = "#0f0d17", "#120f1c", "#ece9f6", "#a09ab8", "#4a4462", "#f98e2b"
_LEAST_LABEL_SHARE = 0.032
"""Share of the map's height that a name needs."""


def render(figures: Figures) -> bytes:
    """The picture as a PNG file.

    :raises FeatureMissing: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context  # noqa: PLC0415 - comes with an extra
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise FeatureMissing("PNG report", str(error), "pip install 'pagewatch[png]'") from None
    # Names are not formulas: a dollar sign in one must not start mathematics.
    with warnings.catch_warnings(), rc_context({"text.parse_math": False, "font.size": 9, "text.color": _INK}):
        # A letter that no font here has is drawn as a box, which says as much.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        sheet = Figure(figsize=_SIZE_INCHES, dpi=_DPI, facecolor=_PAGE)
        FigureCanvasAgg(sheet)
        _title(sheet, figures)
        if figures.totals.page_writes:
            upper, lower = sheet.subplots(2, 1, sharex=True, height_ratios=(5, 1))
            sheet.subplots_adjust(left=0.19, right=0.905, top=0.855, bottom=0.075, hspace=0.04)
            _heatmap(upper, figures)
            _rate(lower, figures)
            _legend(sheet)
        else:
            sheet.text(0.5, 0.5, "No write was seen in this recording.", ha="center", size=12)
        file = BytesIO()
        sheet.savefig(file, format="png", facecolor=_PAGE)
    return file.getvalue()


def _title(sheet: Any, figures: Figures) -> None:
    totals, page = figures.totals, figures.header.page_size
    facts = [
        wording.duration(totals.duration_ns),
        f"{wording.size(totals.unique_pages * page)} of unique pages",
        f"{wording.count(totals.page_writes)} page writes",
        f"{wording.size(totals.page_writes_per_s * page)}/s",
        f"each page {wording.factor(totals.rewrite_factor)}",
        wording.printable(figures.header.method),
    ]
    if not figures.complete:
        facts.append("recording incomplete")
    sheet.text(0.03, 0.95, wording.shorten(captions.command(figures), 100), size=15, weight="bold")
    sheet.text(0.03, 0.915, "  ·  ".join(facts), size=9, color=_SOFT)


def _heatmap(axes: "Axes", figures: Figures) -> None:
    heatmap, seconds = figures.heatmap, figures.timeline.edges_ns / 1e9
    n_rows = len(heatmap.row_start)
    axes.pcolormesh(
        seconds,
        np.arange(n_rows + 1),
        np.ma.masked_invalid(scale.levels(heatmap.density)),
        cmap=_colours(),
        vmin=0,
        vmax=1,
        rasterized=True,
    )
    axes.set_ylim(n_rows, 0)
    for row in heatmap.borders():
        axes.axhline(row, color=_LINE, linewidth=0.6)
    names: list[tuple[float, str]] = []
    for index, first, end in sorted(heatmap.bands(), key=lambda band: band[1] - band[2]):
        middle = (first + end) / 2
        if all(abs(middle - other) >= n_rows * _LEAST_LABEL_SHARE for other, _ in names):
            names.append((middle, _name(figures, index)))
    axes.set_yticks([middle for middle, _ in names], [name for _, name in names])
    _dress(axes)
    axes.tick_params(labelbottom=False)
    _shrink_names(axes)
    right = axes.twinx()
    right.set_ylim(n_rows, 0)
    rows = np.linspace(0, n_rows - 1, min(7, n_rows)).astype(int)
    right.set_yticks(
        rows + 0.5, [f"{start:x}" for start in heatmap.row_start[rows].tolist()], family="monospace", size=7
    )
    _dress(right)


def _shrink_names(axes: "Axes") -> None:
    """Names of wide letters are drawn smaller, rather than over the edge of the picture."""
    room = axes.bbox.x0 * 0.9
    for name in axes.get_yticklabels():
        width = name.get_window_extent().width
        if width > room:
            name.set_fontsize(name.get_fontsize() * room / width)


def _name(figures: Figures, index: int) -> str:
    mapping = figures.mappings[index]
    many = len(figures.processes) > 1
    return captions.name(mapping, 20 if many else 26) + (f" · {mapping.pid}" if many else "")


def _rate(axes: "Axes", figures: Figures) -> None:
    timeline, page = figures.timeline, figures.header.page_size
    rates = timeline.page_writes_per_s * page
    axes.stairs(rates, timeline.edges_ns / 1e9, fill=True, color=_ACCENT)
    peak = float(rates.max())
    axes.set_ylim(0, peak * 1.1)
    axes.set_yticks([0, peak], ["0", f"{wording.size(peak)}/s"])
    axes.set_xlim(0, timeline.edges_ns[-1] / 1e9)
    axes.set_xlabel("seconds since the recording began", color=_SOFT)
    _dress(axes)


def _legend(sheet: Any) -> None:
    axes = sheet.add_axes((0.725, 0.891, 0.18, 0.014))
    axes.imshow(
        np.linspace(0, 1, 256)[None, :],
        aspect="auto",
        extent=(0, 1, 0, 1),
        cmap=_colours(),
    )
    axes.set_yticks([])
    places = scale.levels(np.array(scale.TICKS))
    names = [f"{'' if number else '≤ '}{tick * 100:g} %" for number, tick in enumerate(scale.TICKS)]
    axes.set_xticks(places, names, size=7)
    axes.set_title("share of pages written, per collect", size=8, color=_SOFT, pad=3)
    _dress(axes)


def _colours() -> Any:
    from matplotlib.colors import ListedColormap  # noqa: PLC0415 - comes with an extra

    return ListedColormap(scale.colours(scale.DARK, 255))


def _dress(axes: Any) -> None:
    axes.set_facecolor(_GROUND)
    axes.tick_params(colors=_SOFT, length=2)
    for spine in axes.spines.values():
        spine.set_color(_LINE)
