import numpy as np
import pytest

from pagewatch.report import scale
from pagewatch.report.figures import compute
from pagewatch.report.values import Figures
from support.recordings import Lively

pytest.importorskip("bokeh", reason="needs bokeh: pip install 'pagewatch[html]'")

from pagewatch.report import plots


@pytest.fixture(scope="module")
def figures() -> Figures:
    return compute(Lively(n_epochs=60).recording(), rows=100, columns=37)


def test_both_plots_share_their_time(figures: Figures) -> None:
    upper, lower = plots.plots(figures)
    assert upper.x_range is lower.x_range
    assert (upper.name, lower.name) == ("heatmap", "rate")
    assert (upper.y_range.start, upper.y_range.end) == (len(figures.heatmap.row_start), 0)


def test_a_picture_column_shows_the_time_under_it(figures: Figures) -> None:
    seconds = figures.timeline.edges_ns / 1e9
    (image,) = plots._image(figures, seconds)["image"]
    n_pixels = image.shape[1]
    levels = scale.levels(figures.heatmap.density)
    for pixel in range(n_pixels):
        middle = (pixel + 0.5) * seconds[-1] / n_pixels
        column = next(i for i in range(len(seconds) - 1) if seconds[i] <= middle < seconds[i + 1])
        expected = [0 if np.isnan(level) else 1 + round(level * 254) for level in levels[:, column]]
        assert image[:, pixel].tolist() == expected


@pytest.mark.parametrize(("peak", "kind"), [(255, "u1"), (256, "u2"), (70_000, "u4"), (1 << 40, "f8")])
def test_cells_travel_in_the_smallest_type_that_holds_them(peak: int, kind: str) -> None:
    values = plots._smallest(np.array([[0, peak]]))
    assert values.dtype == np.dtype(kind)
    assert values.tolist() == [[0, peak]]


def test_nothing_of_the_recording_is_in_a_script(figures: Figures) -> None:
    from bokeh.models import CustomJSHover, CustomJSTicker, CustomJSTickFormatter

    upper, _ = plots.plots(figures)
    codes = [model.code for kind in (CustomJSHover, CustomJSTickFormatter) for model in upper.select({"type": kind})]
    codes += [model.major_code for model in upper.select({"type": CustomJSTicker})]
    assert len(codes) == 4
    assert not any("heap" in code or "4211" in code for code in codes)


def test_a_short_column_among_long_ones_is_wide_enough_to_be_seen() -> None:
    seconds = np.array([0, 1, 1.05, 2, 3, 4])
    n_pixels = plots._n_pixels(seconds)
    assert n_pixels * 0.05 / 4 >= 1
    assert plots._n_pixels(np.array([0, 1, 2])) == 4
    assert plots._n_pixels(np.array([0, 1, 1 + 1e-9])) == 1200


def test_lines_that_would_crowd_are_left_out() -> None:
    assert plots._apart([10, 100, 102, 104, 200], 300) == [10, 200]
    assert plots._apart([1, 2], 20) == [1, 2]
    assert plots._apart([], 300) == []
