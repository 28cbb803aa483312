import json
from typing import Any

import numpy as np

from pagewatch.report import as_json
from pagewatch.report.figures import compute
from pagewatch.report.values import Figures
from support import recordings
from support.recordings import HOSTILE_NAME, Lively, PlainRecording


def both(recording: PlainRecording) -> tuple[Figures, Any]:
    figures = compute(recording, rows=50, columns=40)
    return figures, json.loads(as_json.render(figures))


def test_the_object_has_the_documented_members() -> None:
    _, report = both(Lively(n_epochs=30).recording())
    assert report["schema"] == "pagewatch-report/1"
    assert as_json.__doc__ is not None
    for name in report.keys() - {"schema"}:
        assert f"``{name}``" in as_json.__doc__


def test_the_heatmap_can_be_put_together_again() -> None:
    figures, report = both(Lively(n_epochs=30).recording())
    heatmap, cells = report["heatmap"], report["heatmap"]["cells"]
    grid = np.zeros((len(heatmap["rows"]), len(report["timeline"]["page_writes"])), np.int64)
    grid[cells["row"], cells["column"]] = cells["page_writes"]
    assert np.array_equal(grid, figures.heatmap.page_writes)
    assert [int(row["start"], 16) for row in heatmap["rows"]] == figures.heatmap.row_start.tolist()
    names = {report["mappings"][row["mapping"]]["label"] for row in heatmap["rows"]}
    assert {"[heap]", "/srv/ring", "[anonymous]"} <= names


def test_numbers_are_those_of_the_figures() -> None:
    figures, report = both(Lively(n_epochs=30).recording())
    assert report["totals"]["page_writes"] == figures.totals.page_writes
    assert report["timeline"]["edges_ns"] == figures.timeline.edges_ns.tolist()
    assert sum(mapping["page_writes"] for mapping in report["mappings"]) == report["totals"]["page_writes"]
    reasons = {(spot["reason"], spot["pages"]) for spot in report["blind_spots"]}
    assert reasons == {("pinned", 8), ("file_content", 512)}


def test_hostile_names_survive_as_ascii() -> None:
    figures, report = both(Lively(n_epochs=5, name=HOSTILE_NAME).recording())
    assert as_json.render(figures).isascii()
    assert HOSTILE_NAME in {mapping["label"] for mapping in report["mappings"]}


def test_an_empty_recording_is_an_object_too() -> None:
    _, report = both(PlainRecording(recordings.header()))
    assert report["heatmap"] == {"rows": [], "cells": {"row": [], "column": [], "page_writes": []}}
