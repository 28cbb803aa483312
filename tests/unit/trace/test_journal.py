"""Lines of the journal."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import support.recorded as rec
from pagewatch.trace.format import STREAMS
from pagewatch.trace.journal import (
    Commit,
    End,
    Extent,
    commit_line,
    end_line,
    header_line,
    plain_text,
    read_journal,
)
from pagewatch.vocab.errors import TraceError

COMMIT = Commit(10, {"epochs": Extent(0, 80, 3, 0xFFFFFFFF), "notes": Extent(0, 8, 0, 0)})


def read(data: bytes) -> list[object]:
    header, entries = read_journal(Path("journal"), io.BytesIO(data))
    return [header, *entries]


def test_lines_come_back() -> None:
    lines = header_line(rec.HEADER) + commit_line(COMMIT) + end_line(End(20, 'say "done"\n'))
    assert read(lines) == [rec.HEADER, COMMIT, End(20, 'say "done"\n')]


@given(sizes=st.lists(st.tuples(st.sampled_from(STREAMS), st.integers(1, 1 << 30)), max_size=8))
def test_any_chain_of_commits_comes_back(sizes: list[tuple[str, int]]) -> None:
    at = dict.fromkeys(STREAMS, 0)
    commits = []
    for time_ns, (stream, n_bytes) in enumerate(sizes):
        commits.append(Commit(time_ns, {stream: Extent(at[stream], n_bytes, 0, 7)}))
        at[stream] += n_bytes
    lines = header_line(rec.HEADER) + b"".join(map(commit_line, commits))
    assert read(lines) == [rec.HEADER, *commits]


def test_a_line_without_its_newline_does_not_count() -> None:
    lines = header_line(rec.HEADER) + commit_line(COMMIT)
    assert read(lines[:-1]) == [rec.HEADER]


def test_a_whole_line_that_does_not_check_out_is_corruption() -> None:
    lines = header_line(rec.HEADER) + commit_line(COMMIT).replace(b"80", b"81")
    with pytest.raises(TraceError, match="checksum"):
        read(lines)


def test_lone_surrogates_become_escapes() -> None:
    assert plain_text("a\udcffb\ud800\N{SNOWMAN}") == "a\\udcffb\\ud800\N{SNOWMAN}"
