"""Finding the machine's own repository in its apt sources, whatever way they are written."""

from pathlib import Path

import packages
import pytest
from packages import PackagesUnavailable, machine_source

OTHER = "deb https://tools.example/apt tools-bookworm main\n"
ONE_LINE = "# deb-src http://a.example/debian bookworm main\ndeb http://a.example/debian bookworm main contrib # all\n"
SIGNED = "deb [arch=amd64 signed-by=/keys/a.gpg] http://a.example/debian bookworm main\n"
DEB822 = """\
Types: deb deb-src
# deb http://b.example/debian
URIs: http://a.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/a.gpg

Types: deb
URIs: http://a.example/security
Suites: bookworm-security
Components: main
"""


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian"\n')
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/tools.list").write_text(OTHER)
    monkeypatch.setattr(packages, "ETC_APT", tmp_path)
    monkeypatch.setattr(packages, "OS_RELEASE", tmp_path / "os-release")
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("sources.list", ONE_LINE, "deb http://a.example/debian trixie main contrib\n"),
        ("sources.list.d/a.list", SIGNED, "deb [signed-by=/keys/a.gpg] http://a.example/debian trixie main\n"),
        ("sources.list.d/a.sources", DEB822, "deb [signed-by=/keys/a.gpg] http://a.example/debian trixie main\n"),
    ],
)
def test_main_repository_is_found_and_serves_another_suite(etc: Path, file: str, text: str, line: str) -> None:
    (etc / file).write_text(text)
    assert machine_source().line("trixie") == line


def test_repositories_of_others_do_not_count(etc: Path) -> None:
    with pytest.raises(PackagesUnavailable, match="bookworm main"):
        machine_source()
