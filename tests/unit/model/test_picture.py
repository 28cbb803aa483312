"""Pictures of page tables."""

from xml.etree import ElementTree as ET

from pagewatch.model.picture import rows, svg
from support.modelled import Area


def test_the_text_is_a_tree_that_ends_in_the_entries() -> None:
    area = Area(4)
    area.store(1)
    lines = area.process.picture(area.start, area.end).splitlines()
    assert [line.split("[")[0].strip() for line in lines] == ["PGD", "PUD", "PMD", "PTE", "PTE", "PTE"]
    assert lines[3].endswith("empty")
    assert "write" in lines[4]
    assert lines[5].endswith("2 empty entries")
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 2, 4, 6, 6, 6]


def test_where_no_table_stands_the_picture_ends_higher_up() -> None:
    area = Area(4)
    assert [row.level for row in rows(area.process.mm, area.start, area.end)] == ["PGD"]


def test_the_svg_is_xml_with_a_box_for_each_row() -> None:
    area = Area(4)
    area.store(0, 2)
    area.armed()
    root = ET.fromstring(svg(area.process.mm, area.start, area.end))  # noqa: S314 - our own output
    boxes = root.findall("{*}g")
    assert len(boxes) == len(rows(area.process.mm, area.start, area.end))
    assert any("uffd-wp" in (label.text or "") for label in root.iter("{http://www.w3.org/2000/svg}text"))
