import re
import sys
from html.parser import HTMLParser

import pytest

from pagewatch.report.figures import compute
from pagewatch.report.html import render
from pagewatch.vocab import wording
from pagewatch.vocab.errors import FeatureMissing
from support import recordings
from support.recordings import HOSTILE_NAME, Lively, PlainRecording

NEEDS = "needs bokeh: pip install 'pagewatch[html]'"


class Elements(HTMLParser):
    """Every element's name and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def page_of(recording: PlainRecording) -> str:
    pytest.importorskip("bokeh", reason=NEEDS)
    return render(compute(recording, rows=200, columns=300))


def test_the_page_refers_to_nothing_outside_itself() -> None:
    for tag, attributes in Elements(page_of(Lively(n_epochs=30).recording())).found:
        assert tag not in {"link", "iframe", "img", "object", "embed", "base"}
        assert not {"src", "href", "srcset", "action"} & attributes.keys()


def test_names_become_neither_elements_nor_scripts() -> None:
    plain, hostile = (
        [tag for tag, _ in Elements(page_of(Lively(n_epochs=9, name=name).recording())).found]
        for name in ("/srv/ring", HOSTILE_NAME)
    )
    assert hostile == plain
    page = page_of(Lively(n_epochs=9, name=HOSTILE_NAME).recording())
    assert "onerror=document" not in re.sub(r"&lt;img src=x onerror=document", "", page)
    assert not {"\u202e", "\x1b", "\x00"} & set(page)


def test_the_table_has_a_row_for_each_mapping_up_to_a_limit() -> None:
    rows = [recordings.mapping(100 * i, 100 * i + 9, f"/file{i:04}") for i in range(1, 700)]
    page = page_of(PlainRecording(recordings.header(), [recordings.process()], rows, [recordings.epoch(0, [100])]))
    assert len(re.findall(r'<td class="name"><bdi>/file\d+</bdi>', page)) == 500
    assert "and 199 more, which were written least" in page


def test_every_column_of_numbers_is_explained() -> None:
    found = Elements(page_of(Lively(n_epochs=9).recording())).found
    titles = [
        attributes.get("title") for tag, attributes in found if tag == "th" and attributes["data-kind"] == "number"
    ]
    assert len(titles) == 8
    assert all(titles)
    assert "page writes divided by unique pages" in titles


def test_a_long_recording_makes_no_large_page() -> None:
    assert len(page_of(Lively(n_epochs=1500).recording())) < 4_000_000


def test_figures_are_told_in_words() -> None:
    recording = Lively(n_epochs=30).recording()
    totals = compute(recording, rows=9, columns=9).totals
    page = page_of(recording)
    assert f"{wording.count(totals.unique_pages)} pages</p>" in page
    assert "a file&#39;s bytes also change through write(2)" in page
    assert "process 4212 was forked by 4211" in page
    assert '<bdi class="inline">python3 4211</bdi>' in page


def test_without_bokeh_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("bokeh", "pagewatch.report.plots"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh", None)
    with pytest.raises(FeatureMissing, match=r"pip install 'pagewatch\[html\]'"):
        render(compute(PlainRecording(recordings.header()), rows=9, columns=9))
