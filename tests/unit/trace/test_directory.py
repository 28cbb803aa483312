"""Claiming a directory for a recording harms nothing else."""

import os
from pathlib import Path

import pytest

import support.recorded as rec
from pagewatch.trace import Trace
from pagewatch.trace.directory import check_output, clear, is_recording
from pagewatch.vocab.errors import TraceError


def test_a_new_directory_is_made(tmp_path: Path) -> None:
    check_output(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    check_output(tmp_path / "new")


def test_a_recording_is_kept_without_force_and_until_it_is_replaced(tmp_path: Path) -> None:
    rec.write_sample(tmp_path / "r")
    with pytest.raises(TraceError, match="--force"):
        check_output(tmp_path / "r")
    check_output(tmp_path / "r", force=True)
    assert Trace.open(tmp_path / "r").complete


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_of_something_else_is_refused_even_with_force(tmp_path: Path, *, force: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(TraceError, match="not a recording"):
        check_output(tmp_path, force=force)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("force", [False, True])
def test_a_file_or_a_dangling_link_is_refused(tmp_path: Path, *, force: bool) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(TraceError, match="not a directory"):
            check_output(tmp_path / name, force=force)
    assert not (tmp_path / "nowhere").exists()


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="there is no directory"):
        check_output(tmp_path / "a" / "b")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a file system that refuses root, too")
def test_an_unwritable_place_is_refused() -> None:
    with pytest.raises(TraceError, match=r"cannot be written to .* -o"):
        check_output(Path("/sys/kernel/recording"))


def test_a_place_inside_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match="Not a directory"):
        check_output(tmp_path / "file" / "recording")


def test_clearing_removes_the_recording_and_nothing_else(tmp_path: Path) -> None:
    rec.write_sample(tmp_path / "r")
    (tmp_path / "r" / "heatmap.png").write_bytes(b"")
    clear(tmp_path / "r")
    assert [file.name for file in (tmp_path / "r").iterdir()] == ["heatmap.png"]


def test_a_corrupt_recording_still_counts_as_one(tmp_path: Path) -> None:
    rec.write_sample(tmp_path / "r")
    os.truncate(tmp_path / "r" / "recording.jsonl", 60)
    assert is_recording(tmp_path / "r")
    assert not is_recording(tmp_path)
