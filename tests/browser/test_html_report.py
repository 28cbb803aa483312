"""The HTML report in a real browser: drawn, zoomable, right under the mouse, and deaf to hostile names."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagewatch.report.figures import compute
from pagewatch.report.html import render
from pagewatch.report.values import Figures
from pagewatch.vocab import wording
from support import recordings
from support.browser import chromium
from support.recordings import HOSTILE_NAME, Lively, PlainRecording

pytest.importorskip("bokeh", reason="needs bokeh: pip install 'pagewatch[html]'")
pytest.importorskip("selenium", reason="needs selenium")

GRID = {"rows": 120, "columns": 90}

FRAME = """
const view = Bokeh.index.find_one(plotNamed(arguments[0]))
const box = view.el.getBoundingClientRect()
return [box.left + view.frame.bbox.left, box.top + view.frame.bbox.top, view.frame.bbox.width, view.frame.bbox.height]
"""
RANGES = """
const plot = plotNamed(arguments[0])
return [plot.x_range.start, plot.x_range.end, plot.y_range.start, plot.y_range.end]
"""
TOOLTIP = """
const found = []
const search = (root) => {
  for (const element of root.querySelectorAll("*")) {
    if (element.classList.contains("bk-tooltip-row-value") && element.checkVisibility()) found.push(element.innerText)
    if (element.shadowRoot) search(element.shadowRoot)
  }
}
search(document)
return found
"""


class Page:
    """A report that is open in the browser."""

    def __init__(self, driver: Any, figures: Figures, path: Path) -> None:
        self.driver = driver
        self.figures = figures
        path.write_text(render(figures), encoding="utf-8")
        for kind in ("browser", "performance"):
            driver.get_log(kind)  # what came before is not this page's
        driver.get(path.as_uri())
        self.wait(
            lambda: self.run("return plotNamed('rate') != null && Bokeh.index.find_one(plotNamed('rate')) != null")
        )
        self.wait(lambda: self.frame("heatmap")[2] > 0)

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any]) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 30, poll_frequency=0.05).until(lambda _: condition())

    def frame(self, name: str) -> list[float]:
        return self.run(FRAME, name)

    def ranges(self, name: str = "heatmap") -> list[float]:
        return self.run(RANGES, name)

    def mouse(self, kind: str, x: float, y: float, **more: object) -> None:
        """A mouse event at a point of the window, by the browser's own input path."""
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **more})

    def hover(self, row: float, seconds: float) -> list[str]:
        """The tooltip's lines at a place of the whole heatmap."""
        left, top, width, height = self.frame("heatmap")
        x = left + width * seconds / (self.figures.timeline.edges_ns[-1] / 1e9)
        y = top + height * row / len(self.figures.heatmap.row_start)
        self.mouse("mouseMoved", x - 2, y)
        self.mouse("mouseMoved", x, y)
        return self.wait(lambda: self.run(TOOLTIP))

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] != "INFO"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(driver: Any, tmp_path: Path) -> Page:
    return Page(driver, compute(Lively().recording(), **GRID), tmp_path / "report.html")


def test_the_page_loads_without_complaint_and_without_network(page: Page) -> None:
    assert page.complaints() == []
    events = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # The browser has pages of its own, which do not concern this one.
    urls = [request["request"]["url"] for request in requests if request["documentURL"].startswith("file:")]
    assert [url for url in urls if not url.startswith(("data:", "blob:"))] == [page.driver.current_url]


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_heatmap_is_drawn_in_the_colours_of_its_cells(page: Page, theme: str) -> None:
    page.run("setTheme(arguments[0])", theme)
    heatmap, edges = page.figures.heatmap, page.figures.timeline.edges_ns
    row = int(np.argmax(heatmap.density.max(axis=1)))
    full, empty = int(np.argmax(heatmap.density[row])), None
    for candidate in range(len(heatmap.row_start)):
        if not heatmap.page_writes[candidate, full] and heatmap.page_writes[candidate].any():
            empty = candidate
    assert empty is not None
    width = edges[-1]
    pixel = """
const done = arguments[2]
setTimeout(() => {
  const view = Bokeh.index.find_one(plotNamed("heatmap"))
  const canvas = view.canvas_view.primary.canvas
  const scale = canvas.width / view.canvas_view.el.getBoundingClientRect().width
  const {left, top, width, height} = view.frame.bbox
  const at = [left + width * arguments[0], top + height * arguments[1]].map((place) => Math.round(place * scale))
  done(Array.from(canvas.getContext("2d").getImageData(at[0], at[1], 1, 1).data))
}, 400)
"""
    x = (edges[full] + edges[full + 1]) / 2 / width

    def colour(at_row: int) -> list[int]:
        return page.driver.execute_async_script(pixel, x, (at_row + 0.5) / len(heatmap.row_start))

    palette = page.run("return PALETTES[arguments[0]]", theme)
    expected = [int(palette[-1][i : i + 2], 16) for i in (1, 3, 5)]
    assert heatmap.density[row, full] == 1
    assert np.abs(np.array(colour(row)[:3]) - expected).max() <= 3
    assert np.abs(np.array(colour(empty)[:3]) - expected).max() > 60


def test_the_tooltip_tells_the_numbers_of_the_cell(page: Page) -> None:
    heatmap, edges = page.figures.heatmap, page.figures.timeline.edges_ns
    for row, column in zip(*(found[:: len(found) // 4] for found in np.nonzero(heatmap.page_writes)), strict=True):
        mapping = page.figures.mappings[heatmap.row_mapping[row]]
        middle = (edges[column] + edges[column + 1]) / 2e9
        name, process, addresses, time, written = page.hover(row + 0.5, middle)
        assert name.startswith(mapping.label)
        assert process == f"{mapping.process} {mapping.pid}"
        assert addresses == f"{heatmap.row_start[row]:x}-{heatmap.row_end[row]:x}"
        assert time == f"{edges[column] / 1e9:.2f} – {edges[column + 1] / 1e9:.2f} s"
        assert written.startswith(f"{heatmap.page_writes[row, column]:,} of {heatmap.row_pages[row]:,} pages")


def test_the_wheel_zooms_both_plots_in_time(page: Page) -> None:
    before = page.ranges()
    left, top, width, height = page.frame("heatmap")
    page.mouse("mouseMoved", left + width / 2, top + height / 2)
    page.mouse("mouseWheel", left + width / 2, top + height / 2, deltaX=0, deltaY=-240)
    after = page.wait(lambda: (now := page.ranges()) != before and now)
    assert before[0] <= after[0] < after[1] <= before[1]
    assert after[1] - after[0] < before[1] - before[0]
    assert abs(after[3] - after[2]) < abs(before[3] - before[2])
    assert page.ranges("rate")[:2] == after[:2]


def test_a_box_zooms_to_what_it_holds(page: Page) -> None:
    left, top, width, height = page.frame("heatmap")
    start, end, bottom, _ = page.ranges()
    corner, opposite = (left + width * 0.25, top + height * 0.2), (left + width * 0.75, top + height * 0.6)
    page.mouse("mousePressed", *corner, button="left", clickCount=1)
    for step in range(1, 6):
        at = [a + (b - a) * step / 5 for a, b in zip(corner, opposite, strict=True)]
        page.mouse("mouseMoved", at[0], at[1], button="left", buttons=1)
    page.mouse("mouseReleased", *opposite, button="left", clickCount=1)
    after = page.wait(lambda: (now := page.ranges()) != [start, end, bottom, 0] and now)
    assert after[0] == pytest.approx(start + (end - start) * 0.25, abs=(end - start) * 0.01)
    assert after[1] == pytest.approx(start + (end - start) * 0.75, abs=(end - start) * 0.01)
    assert sorted(after[2:]) == pytest.approx([bottom * 0.2, bottom * 0.6], abs=bottom * 0.01)


def test_headings_sort_the_table(page: Page) -> None:
    read = """
const cells = Array.from(document.querySelectorAll('#mappings tbody tr'), (row) => row.cells[arguments[0]])
return cells.map((cell) => cell.dataset.value ?? cell.textContent.trim())
"""
    names = page.run("return Array.from(document.querySelectorAll('#mappings th'), (cell) => cell.textContent.trim())")
    sizes = names.index("size")
    click = "document.querySelectorAll('#mappings th button')[arguments[0]].click()"
    page.run(click, sizes)
    down = [float(value) for value in page.run(read, sizes)]
    assert down == sorted((mapping.writable_pages for mapping in page.figures.mappings), reverse=True)
    page.run(click, sizes)
    assert [float(value) for value in page.run(read, sizes)] == down[::-1]
    page.run(click, 0)
    anonymous = [label.startswith("[anonymous]") for label in page.run(read, 0)]
    page.run(click, 0)
    assert [label.startswith("[anonymous]") for label in page.run(read, 0)] == anonymous[::-1]
    assert len(anonymous) == len(page.figures.mappings)
    assert page.run("return document.querySelectorAll('#mappings th')[0].ariaSort") == "descending"


def test_narrow_windows_do_not_scroll_sideways(page: Page) -> None:
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.wait(lambda: page.frame("heatmap")[2] < 390)
        assert page.run("return document.documentElement.scrollWidth") <= 390
        assert page.frame("heatmap")[2] > 200
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nameless_mappings_can_be_told_apart_in_a_narrow_window(page: Page) -> None:
    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    names = ["[anon] 7fef9dc46000 · 117", "[anonymous] 7fef9e7f7000", "libpython3.11.so.1.0 · 117", "[heap]"]
    read = """
        const formatter = plotNamed("heatmap").left[0].formatter
        const said = new Function("first", "label", "tick", formatter.code)
        return arguments[0].map((name) => said([0], [name], 0))
    """
    assert page.run(read, names) == names
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page.wait(lambda: page.frame("heatmap")[2] < 390)
        assert page.run(read, names) == ["…f9dc46000", "…f9e7f7000", "libpython3…", "[heap]"]
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_hostile_names_are_shown_and_not_run(driver: Any, tmp_path: Path) -> None:
    recording = Lively(n_epochs=20, name=HOSTILE_NAME).recording()
    hostile = PlainRecording(
        header=recordings.header(command=(HOSTILE_NAME, "--x"), method=HOSTILE_NAME, kernel=HOSTILE_NAME),
        processes=[recordings.process(row.pid, HOSTILE_NAME, row.first_ns, row.last_ns) for row in recording.processes],
        mappings=recording.mappings,
        all_epochs=recording.all_epochs,
        notes=[recordings.Note(0, HOSTILE_NAME)],
        ended_reason=HOSTILE_NAME,
        complete=False,
        ended_ns=recording.ended_ns,
    )
    page = Page(driver, compute(hostile, **GRID), tmp_path / "hostile.html")
    shown = wording.printable(HOSTILE_NAME)
    band = next(
        (first, end)
        for index, first, end in page.figures.heatmap.bands()
        if page.figures.mappings[index].label == HOSTILE_NAME
    )
    name, process, *_ = page.hover(sum(band) / 2, 1.0)
    assert name == shown
    assert process.startswith(shown)
    assert page.run("return document.title") != "owned"
    assert page.run("return document.querySelectorAll('img[src=x]').length") == 0
    assert page.run("return document.body.innerText").count(shown) >= 4
    assert not {"\u202e", "\x1b"} & set(page.run("return document.documentElement.outerHTML"))
    assert page.complaints() == []


def test_a_recording_without_writes_has_a_page(driver: Any, tmp_path: Path) -> None:
    path = tmp_path / "empty.html"
    path.write_text(render(compute(PlainRecording(recordings.header()), **GRID)), encoding="utf-8")
    driver.get(path.as_uri())
    assert "No write was seen" in driver.execute_script("return document.body.innerText")
    assert [entry for entry in driver.get_log("browser") if entry["level"] != "INFO"] == []
