import pytest

from support.scripts import script


@pytest.fixture
def write_or_check(monkeypatch):
    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["script", *arguments[2:]])
        return script("made_page").write_or_check(*arguments[:2], "what it is for")

    return run


def test_without_options_the_page_is_written(write_or_check, tmp_path):
    assert write_or_check(tmp_path / "page", "new") == 0
    assert (tmp_path / "page").read_text() == "new"


def test_a_check_writes_nothing_and_fails_where_the_page_is_out_of_date(write_or_check, tmp_path):
    (tmp_path / "page").write_text("old")
    assert write_or_check(tmp_path / "page", "old", "--check") == 0
    assert write_or_check(tmp_path / "page", "new", "--check") == 1
    assert (tmp_path / "page").read_text() == "old"
