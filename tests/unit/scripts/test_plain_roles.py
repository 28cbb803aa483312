import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "plain_roles.py"


@pytest.fixture(scope="module")
def shown():
    spec = importlib.util.spec_from_file_location("plain_roles", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda html: module.on_page_content(html, page=None)


def test_a_role_becomes_the_name_it_marks(shown):
    assert shown("a :class:<code>~pagewatch.vocab.scan.Scan</code>.") == "a <code>Scan</code>."
    assert shown(":meth:<code>collect</code>") == "<code>collect</code>"


def test_what_is_no_role_stays(shown):
    assert shown("<code>x: :class:</code> :rst:<code>x</code>") == "<code>x: :class:</code> :rst:<code>x</code>"
