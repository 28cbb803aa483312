"""The report as one HTML file that needs nothing else: no network, no other file."""

from typing import Any

from pagewatch._version import __version__
from pagewatch.report import captions, scale
from pagewatch.report.values import Figures
from pagewatch.vocab import wording
from pagewatch.vocab.errors import FeatureMissing

_COLUMNS = (
    ("share", "unique pages, of the pages that were ever writable"),
    ("size", "pages that were ever writable"),
    ("unique pages", "pages written at least once"),
    ("page writes", "pages written, summed over epochs: a page that ten epochs report counts ten times"),
    ("per page", "page writes divided by unique pages"),
    ("per second", "page writes times the page size, a second of the mapping's life"),
    ("first write", "end of the first epoch that saw a write"),
    ("last write", "end of the last epoch that saw a write"),
)
"""Columns of numbers in the table of mappings, and what the mouse tells of them."""
_N_MAPPINGS = 500
_N_HOTTEST = 10
_N_NOTES = 200


def render(figures: Figures) -> str:
    """The whole page.

    :raises FeatureMissing: bokeh is not installed.
    """
    try:
        import jinja2  # noqa: PLC0415 - both come with an extra
        from bokeh.embed import components  # noqa: PLC0415
        from bokeh.resources import Resources  # noqa: PLC0415

        from pagewatch.report.plots import plots  # noqa: PLC0415
    except ImportError as error:
        raise FeatureMissing("HTML report", str(error), "pip install 'pagewatch[html]'") from None
    environment = jinja2.Environment(
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.PackageLoader("pagewatch.report", "page"),
    )
    plotted: dict[str, Any] = {"plots": None}
    if figures.totals.page_writes:
        script, divs = components(plots(figures))
        library = Resources(mode="inline", components=["bokeh"], log_level="warn").render_js()
        plotted = {"plots": {"library": library, "script": script, "heatmap": divs[0], "rate": divs[1]}}
    return environment.get_template("report.html").render(**_content(figures), **plotted)


def _content(figures: Figures) -> dict[str, Any]:
    """What the template shows, in words; everything in it is escaped by the template."""
    totals, header = figures.totals, figures.header
    shown = figures.mappings[:_N_MAPPINGS]
    return {
        "version": __version__,
        "title": captions.command(figures),
        "warning": "" if figures.complete else captions.missing(figures.ended_reason, totals.duration_ns),
        "facts": _facts(figures),
        "cards": _cards(figures),
        "many_processes": len(figures.processes) > 1,
        "columns": _COLUMNS,
        "mappings": [_mapping(figures, index) for index in range(len(shown))],
        "left_out": len(figures.mappings) - len(shown),
        "hottest": [_hot(figures, index) for index in range(min(len(figures.hottest), _N_HOTTEST))],
        "rewrites": _rewrites(figures),
        "blind_spots": _blind_spots(figures),
        "assumed": wording.count(totals.assumed_page_writes) if totals.assumed_page_writes else "",
        "hz": f"{header.hz:g}",
        "notes": [(wording.duration(note.at_ns), wording.printable(note.text)) for note in figures.notes[:_N_NOTES]],
        "more_notes": max(len(figures.notes) - _N_NOTES, 0),
        "ticks": [f"{tick * 100:g} %" for tick in scale.TICKS],
        "dark": scale.colours(scale.DARK, 255),
        "light": scale.colours(scale.LIGHT, 255),
        "dark_stops": ", ".join(scale.DARK),
        "light_stops": ", ".join(scale.LIGHT),
    }


def _facts(figures: Figures) -> list[str]:
    return [*captions.facts(figures), wording.moment(figures.header.created_unix_s)]


def _cards(figures: Figures) -> list[dict[str, str]]:
    totals, page = figures.totals, figures.header.page_size
    peak = float(figures.timeline.page_writes_per_s.max(initial=0.0))
    return [
        {
            "name": "Unique pages",
            "number": wording.size(totals.unique_pages * page),
            "more": f"{wording.count(totals.unique_pages)} pages",
        },
        {
            "name": "Page writes",
            "number": wording.count(totals.page_writes),
            "more": f"{wording.size(totals.page_writes * page)} in all",
        },
        {
            "name": "Write rate",
            "number": f"{wording.size(totals.page_writes_per_s * page)}/s",
            "more": f"peak {wording.size(peak * page)}/s",
        },
        {
            "name": "Working set",
            "number": wording.size(totals.median_round_pages * page),
            "more": f"median; peak {wording.size(totals.peak_round_pages * page)}",
        },
        {
            "name": "Rewritten",
            "number": wording.factor(totals.rewrite_factor),
            "more": captions.rewritten(figures),
        },
    ]


def _mapping(figures: Figures, index: int) -> dict[str, Any]:
    """Each cell as (value to sort by, text)."""
    mapping, page = figures.mappings[index], figures.header.page_size
    first, last = mapping.first_write_ns, mapping.last_write_ns
    return {
        "label": wording.printable(mapping.label),
        "addresses": wording.addresses(mapping.start, mapping.end),
        "process": captions.process(mapping),
        "share": mapping.share_written,
        "share_text": wording.percent(mapping.share_written),
        "numbers": [
            (mapping.writable_pages, wording.size(mapping.writable_pages * page)),
            (mapping.unique_pages, wording.size(mapping.unique_pages * page)),
            (mapping.page_writes, wording.count(mapping.page_writes)),
            (mapping.rewrite_factor, wording.factor(mapping.rewrite_factor)),
            (mapping.page_writes_per_s, f"{wording.size(mapping.page_writes_per_s * page)}/s"),
            (-1 if first is None else first, "never" if first is None else wording.duration(first)),
            (-1 if last is None else last, "never" if last is None else wording.duration(last)),
        ],
    }


def _hot(figures: Figures, index: int) -> dict[str, str]:
    hot = figures.hottest[index]
    mapping = figures.mappings[hot.mapping]
    return {
        "label": wording.shorten(mapping.label, 48),
        "addresses": wording.addresses(hot.start, hot.end),
        "process": captions.process(mapping) if len(figures.processes) > 1 else "",
        "size": wording.size(hot.end - hot.start),
        "epochs": f"{wording.count(hot.epochs)} of {wording.count(hot.of_epochs)}",
    }


def _rewrites(figures: Figures) -> list[dict[str, Any]]:
    most = max((bin_.pages for bin_ in figures.rewrites), default=1)
    return [
        {
            "epochs": f"{bin_.at_least:,}" if bin_.at_least == bin_.at_most else f"{bin_.at_least:,}–{bin_.at_most:,}",
            "size": wording.size(bin_.pages * figures.header.page_size),
            "share": bin_.pages / max(most, 1),
        }
        for bin_ in figures.rewrites
    ]


def _blind_spots(figures: Figures) -> list[dict[str, str]]:
    told = (captions.blind(figures, summary) for summary in figures.blind_reasons)
    return [{"size": size, "extent": extent, "example": example} for size, extent, example in told]
