"""What the documents show is run: blocks marked ``python`` in the README and in docs, in order, as one program."""

import re
import runpy

import pytest

import pagewatch
from support.tree import ROOT, short

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if _BLOCK.search(path.read_text()))


@pytest.mark.parametrize("path", DOCUMENTS, ids=short)
def test_code_in_documents_runs(path, tmp_path, monkeypatch):
    """A block sees what the blocks before it defined. A line is at the place where the document has it."""
    text = path.read_text()
    lines = [""] * (text.count("\n") + 1)
    for block in _BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    program = tmp_path / (path.stem + ".py")
    program.write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    assert runpy.run_path(str(program), run_name="__main__")


_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


@pytest.mark.parametrize(
    "path", [p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if _LINK.search(p.read_text())], ids=short
)
def test_links_between_documents_lead_somewhere(path):
    broken = [link for link in _LINK.findall(path.read_text()) if not (path.parent / link).exists()]
    assert not broken


def test_every_public_name_is_in_the_reference():
    """Errors are there as a module: all of it is public."""
    shown = set(re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE))
    homes = {f"{home}.{name}" for name, home in pagewatch._HOME_OF.items() if home != "pagewatch.vocab.errors"}
    assert homes <= shown
    assert "pagewatch.vocab.errors" in shown


def test_every_page_can_be_found_from_the_others():
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text().split("nav:")[1]))
    assert listed == {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
