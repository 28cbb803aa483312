import pytest

from support.scripts import script


@pytest.fixture(scope="module")
def shown():
    module = script("plain_roles")
    return lambda html: module.on_page_content(html, page=None)


def test_a_role_becomes_the_name_it_marks(shown):
    assert shown("a :class:<code>~pagewatch.vocab.scan.Scan</code>.") == "a <code>Scan</code>."
    assert shown(":meth:<code>collect</code>") == "<code>collect</code>"


def test_what_is_no_role_stays(shown):
    assert shown("<code>x: :class:</code> :rst:<code>x</code>") == "<code>x: :class:</code> :rst:<code>x</code>"
