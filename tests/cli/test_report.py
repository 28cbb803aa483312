"""``pagewatch report`` as its users meet it: outputs, exit codes and messages."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pagewatch.cli.main import run
from pagewatch.trace import EpochRow
from pagewatch.vocab.regions import Regions
from support import recordings
from support.commands import PAGEWATCH
from support.recordings import HOSTILE_NAME, Lively, PlainRecording

_RUN = "import sys; from pagewatch.cli.main import main; main()"


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return recordings.write(Lively(n_epochs=20).recording(), tmp_path / "recorded")


def test_text_is_the_default(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(recorded)]) == 0
    plain = capsys.readouterr().out
    assert run(["report", str(recorded), "--text"]) == 0
    assert capsys.readouterr().out == plain
    assert "Where and when" in plain
    assert "\x1b" not in plain


def test_the_width_is_kept(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(recorded), "--width", "50"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 50


def test_json_is_one_object_and_nothing_else(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(recorded), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["recording"]["method"] == "uffd-async"
    assert err == ""


def test_files_are_written_and_never_overwritten_unasked(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bokeh", reason="needs bokeh: pip install 'pagewatch[html]'")
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'pagewatch[png]'")
    page, picture = tmp_path / "r.html", tmp_path / "r.png"
    assert run(["report", str(recorded), "--html", str(page), "--png", str(picture)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"wrote {page}" in err
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")
    assert picture.read_bytes().startswith(b"\x89PNG")
    page.write_text("mine")
    assert run(["report", str(recorded), "--html", str(page)]) == 1
    assert "overwrite it with --force" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert run(["report", str(recorded), "--html", str(page), "--force"]) == 0
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")


def test_one_process_can_be_chosen(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(recorded), "--json", "--pid", "4212"]) == 0
    assert {mapping["pid"] for mapping in json.loads(capsys.readouterr().out)["mappings"]} == {4212}
    assert run(["report", str(recorded), "--pid", "77"]) == 2
    assert "no process 77; it has: 4211, 4212" in capsys.readouterr().err


def test_a_recording_cut_off_is_reported_with_one_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recordings.write(Lively(n_epochs=20).recording(), tmp_path / "cut", end=False)
    assert run(["report", str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["recording"]["complete"] is False
    assert err.count("pagewatch:") == 1
    assert "holds only the first" in err


def test_a_recording_whose_notes_were_cut_off_is_reported_whole(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(recorded), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    os.truncate(recorded / "notes.arrows", 1)
    assert run(["report", str(recorded), "--json"]) == 0
    out, err = capsys.readouterr()
    assert {**json.loads(out), "notes": []} == {**whole, "notes": []}
    assert err.startswith("pagewatch: notes.arrows ends at byte 1,")
    assert len(err.splitlines()) == 1


def test_an_empty_recording_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recordings.write(PlainRecording(recordings.header()), tmp_path / "empty")
    assert run(["report", str(path)]) == 0
    assert "No write was seen in this recording." in capsys.readouterr().out


@pytest.mark.parametrize("content", ["missing", "empty directory", "file", "garbage"])
def test_what_is_no_recording_is_refused_in_a_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "thing"
    if content == "file":
        path.write_text("x")
    elif content != "missing":
        path.mkdir()
    if content == "garbage":
        (path / "recording.jsonl").write_bytes(os.urandom(300))
    assert run(["report", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pagewatch: ")
    assert str(path) in err
    assert len(err.splitlines()) == 1


def test_a_corrupt_recording_is_refused_before_anything_is_written(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = max(recorded.iterdir(), key=lambda path: path.stat().st_size)
    damaged = bytearray(epochs.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    epochs.write_bytes(damaged)
    page = tmp_path / "r.html"
    assert run(["report", str(recorded), "--html", str(page)]) == 1
    assert "corrupt" in capsys.readouterr().err
    assert not page.exists()


def test_a_file_that_cannot_be_overwritten_stays_as_it_was(recorded: Path, tmp_path: Path) -> None:
    pytest.importorskip("bokeh", reason="needs bokeh: pip install 'pagewatch[html]'")
    page = tmp_path / "r.html"
    page.write_text("mine")
    page.chmod(0o640)
    code = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (4096, 4096)); {_RUN}"
    command = [sys.executable, "-c", code, "report", recorded, "--force", "--html"]
    for name in (page, tmp_path / "new.html"):
        done = subprocess.run([*command, name], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr == f"pagewatch: {name}: cannot be written (File too large)\n"
    assert page.read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir() if each != recorded] == ["r.html"]


def test_an_overwritten_file_keeps_its_mode_and_the_link_to_it(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bokeh", reason="needs bokeh: pip install 'pagewatch[html]'")
    page, link = tmp_path / "r.html", tmp_path / "link.html"
    page.write_text("mine")
    page.chmod(0o640)
    link.symlink_to(page)
    assert run(["report", str(recorded), "--force", "--html", str(link)]) == 0
    assert f"wrote {link}" in capsys.readouterr().err
    assert link.is_symlink()
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")
    assert page.stat().st_mode & 0o777 == 0o640


def test_an_output_that_cannot_be_written_is_named(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'pagewatch[png]'")
    nowhere = tmp_path / "no" / "where.png"
    assert run(["report", str(recorded), "--png", str(nowhere)]) == 1
    assert str(nowhere) in capsys.readouterr().err


def test_two_texts_at_once_are_wrong_use(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(recorded), "--text", "--json"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_a_dash_is_the_standard_output(recorded: Path) -> None:
    for option, begin in (("--html", b"<!doctype html>"), ("--png", b"\x89PNG")):
        done = subprocess.run(
            [*PAGEWATCH, "report", recorded, option, "-"], cwd=recorded, capture_output=True, check=True
        )
        assert done.stdout[: len(begin)].lower() == begin.lower()
        assert done.stderr == b""
    assert not (recorded / "-").exists()


def test_two_outputs_never_go_to_one_place(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(recorded), "--html", "-", "--json"]) == 2
    assert run(["report", str(recorded), "--html", "same", "--png", "same"]) == 2
    assert "two names" in capsys.readouterr().err
    assert not Path("same").exists()


@pytest.mark.parametrize("form", [["--json"], ["--text"], ["--html", "r.html"]], ids=lambda form: form[0])
def test_a_recording_of_more_memory_than_there_can_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    whole, nothing = (Regions(rows, page_size=512) for rows in ([(0, (1 << 64) - 512)], []))
    epochs = [EpochRow(100, index, index, index, whole, nothing, ()) for index in range(3)]
    claimed = PlainRecording(recordings.header(page_size=512), [recordings.process()], [], epochs, ended_ns=9)
    assert run(["report", str(recordings.write(claimed, tmp_path / "hostile")), *form]) == 1
    printed = capsys.readouterr()
    assert "corrupt: a region lies beyond" in printed.err
    assert not printed.out
    assert not Path("r.html").exists()


def test_hostile_names_reach_the_terminal_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recordings.write(Lively(n_epochs=5, name=HOSTILE_NAME).recording(), tmp_path / "hostile")
    assert run(["report", str(path)]) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\u202e", "\x00"} & set(out)


def test_the_recording_is_left_as_it_was(recorded: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in recorded.iterdir()}

    before = contents()
    assert run(["report", str(recorded), "--json"]) == 0
    assert contents() == before
    shutil.rmtree(recorded)
