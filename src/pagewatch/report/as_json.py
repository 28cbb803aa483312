"""The report as JSON, for other programs.

One object; every number stands in one place, and what follows from others is left out. Addresses are
hexadecimal strings, because JSON readers lose bits beyond 2^53; times are nanoseconds since the recording
began; pages have ``recording.page_size`` bytes. ``schema`` changes only when a reader would break.
``docs/report.md`` lists every member.

* ``recording``: command, method, hz, kernel, machine, page_size, created_unix_s, complete, ended_reason
* ``totals``, ``processes``, ``mappings``, ``hottest``, ``rewrites``, ``blind_reasons``, ``blind_spots``: the fields of
  :mod:`pagewatch.report.values`; ``mapping`` is an index into ``mappings``
* ``timeline``: arrays with a number per column, ``edges_ns`` with one more
* ``heatmap``: ``rows`` (start, end, pages, mapping, blocks) and ``cells``: three arrays (row, column,
  page_writes) with an item for each cell in which something was written
* ``notes``: at_ns, text
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from pagewatch.report.values import BlindFigure, BlindSummary, Figures, Heatmap, HotRange, MappingFigure, Timeline

SCHEMA = "pagewatch-report/1"


def render(figures: Figures) -> str:
    """The report as one line of JSON in ASCII."""
    return json.dumps(as_object(figures))


def as_object(figures: Figures) -> dict[str, Any]:
    """The report as what :func:`json.dumps` takes; see the module."""
    recording = asdict(figures.header) | {"complete": figures.complete, "ended_reason": figures.ended_reason}
    recording["format"] = recording.pop("version")
    return {
        "schema": SCHEMA,
        "recording": recording,
        "totals": asdict(figures.totals),
        "processes": [asdict(process) for process in figures.processes],
        "mappings": [_mapping(mapping) for mapping in figures.mappings],
        "hottest": [_hot(hot) for hot in figures.hottest],
        "rewrites": [asdict(bin_) for bin_ in figures.rewrites],
        "timeline": _timeline(figures.timeline),
        "heatmap": _heatmap(figures.heatmap),
        "blind_reasons": [_reason(summary) for summary in figures.blind_reasons],
        "blind_spots": [_blind(blind) for blind in figures.blind_spots],
        "notes": [{"at_ns": note.at_ns, "text": note.text} for note in figures.notes],
    }


def _mapping(mapping: MappingFigure) -> dict[str, Any]:
    fields = asdict(mapping)
    # Both are with the process and the times of life.
    del fields["process"], fields["life_ns"]
    return fields | {"start": hex(mapping.start), "end": hex(mapping.end)}


def _hot(hot: HotRange) -> dict[str, Any]:
    return asdict(hot) | {"start": hex(hot.start), "end": hex(hot.end)}


def _blind(blind: BlindFigure) -> dict[str, Any]:
    ranges = [[hex(start), hex(end)] for start, end in blind.ranges]
    return asdict(blind) | {"reason": blind.reason.name.lower(), "meaning": blind.reason.value, "ranges": ranges}


def _reason(summary: BlindSummary) -> dict[str, Any]:
    return asdict(summary) | {"reason": summary.reason.name.lower(), "meaning": summary.reason.value}


def _timeline(timeline: Timeline) -> dict[str, list[int]]:
    names = ("edges_ns", "rounds", "page_writes", "unique_pages", "pages_so_far")
    return {name: getattr(timeline, name).tolist() for name in names}


def _heatmap(heatmap: Heatmap) -> dict[str, Any]:
    columns = (heatmap.row_start, heatmap.row_end, heatmap.row_pages, heatmap.row_mapping, heatmap.row_blocks)
    rows, columns_hit = np.nonzero(heatmap.page_writes)
    return {
        "rows": [
            {"start": hex(start), "end": hex(end), "pages": pages, "mapping": mapping, "blocks": blocks}
            for start, end, pages, mapping, blocks in zip(*(column.tolist() for column in columns), strict=True)
        ],
        "cells": {
            "row": rows.tolist(),
            "column": columns_hit.tolist(),
            "page_writes": heatmap.page_writes[rows, columns_hit].tolist(),
        },
    }
