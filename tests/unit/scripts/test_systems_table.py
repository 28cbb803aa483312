"""The page of systems: up to date, complete, and naming nothing that is not there."""

import pytest

from support.scripts import script
from support.tree import ROOT


@pytest.fixture(scope="module")
def table():
    return script("systems_table")


def test_the_page_in_docs_is_what_the_script_makes(table):
    """If this fails: python scripts/systems_table.py."""
    assert (ROOT / "docs" / "systems.md").read_text() == table.page(table.SYSTEMS, table.shipped())


def test_all_26_systems_are_there(table):
    assert [system.number for system in table.SYSTEMS] == list(range(1, 27))


def test_what_must_be_shown_step_by_step_has_a_scenario(table):
    assert {4, 5, 10, 15, 16, 17, 20, 24, 26} <= table.shipped().keys()


def test_every_scenario_shows_one_of_the_systems(table):
    assert table.shipped().keys() <= {system.number for system in table.SYSTEMS}


def test_every_test_that_is_named_has_tests(table):
    for system in table.SYSTEMS:
        for path in system.tests.split():
            top = ROOT / "tests" / path
            files = [top] if top.is_file() else list(top.rglob("test_*.py"))
            assert files, path
            assert all("def test_" in file.read_text() for file in files), path


@pytest.mark.parametrize(
    ("modules", "tests", "words"),
    [
        ("model/nothing.py", "unit/model/test_thp.py", "model/nothing.py below src/pagewatch"),
        ("model/thp.py", "unit/test_nothing.py", "unit/test_nothing.py below tests"),
        ("", "unit/model/test_thp.py", "nothing below"),
        ("model/thp.py", "", "nothing below"),
    ],
)
def test_a_system_that_names_nothing_or_what_is_not_there_is_refused(table, modules, tests, words):
    with pytest.raises(SystemExit, match=words):
        table.page((table.System(1, "t", "d", modules, tests),), {})
