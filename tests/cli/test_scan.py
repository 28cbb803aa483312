"""``pagewatch scan`` of a process whose pages are known."""

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewatch import track
from pagewatch.vocab.buffers import buffer_span
from support import restricted
from support.commands import assert_short_error, pagewatch, start
from support.needs import requires

pytestmark = [pytest.mark.live, requires("pagemap_scan")]

PAGE = mmap.PAGESIZE
# Pages 1, 2 and 5 of 8 are there; the last mapping is a file with a hostile name.
HOLDER = """
import ctypes, mmap, sys
memory = mmap.mmap(-1, 8 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE)
for page in (1, 2, 5):
    memory[page * mmap.PAGESIZE] = 1
with open(sys.argv[1], "w+b") as file:
    file.write(b"x" * mmap.PAGESIZE)
    file.flush()
    mapped = mmap.mmap(file.fileno(), mmap.PAGESIZE, mmap.MAP_SHARED)
mapped[0] = 2
print(*(ctypes.addressof(ctypes.c_char.from_buffer(part)) for part in (memory, mapped)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[int, int, int]]:
    """Its pid, where its eight pages are, and where its file is mapped."""
    name = tmp_path / "evil\x1b[2J\u202e name"
    with start([sys.executable, "-c", HOLDER, name], stdin=subprocess.PIPE) as target:
        assert target.stdout is not None
        memory, mapped = map(int, target.stdout.readline().split())
        yield target.pid, memory, mapped
        target.communicate("")


def test_it_shows_exactly_the_pages_that_are_there(holder: tuple[int, int, int]) -> None:
    pid, base, _ = holder
    span = f"{base:x}-{base + 8 * PAGE:x}"
    done = pagewatch("scan", "-p", pid, "--where", "present", "--range", span, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [(row["start"], row["end"]) for row in answer["regions"]] == [
        (base + PAGE, base + 3 * PAGE),
        (base + 5 * PAGE, base + 6 * PAGE),
    ]
    assert answer["pages"] == 3
    assert answer["complete"]
    assert {row["permissions"] for row in answer["regions"]} == {"rw-p"}
    assert answer["regions"][0]["categories"] == ["present"]


def test_the_table_has_the_same_numbers(holder: tuple[int, int, int]) -> None:
    pid, base, _ = holder
    span = f"{base:x}-{base + 8 * PAGE:x}"
    lines = pagewatch("scan", "-p", pid, "--where", "present", "--range", span).stdout.splitlines()
    assert lines[0].split() == ["RANGE", "PAGES", "CATEGORIES", "MAPPING"]
    assert lines[1].split()[:3] == [f"{base + PAGE:x}-{base + 3 * PAGE:x}", "2", "present"]
    assert lines[2].split()[:3] == [f"{base + 5 * PAGE:x}-{base + 6 * PAGE:x}", "1", "present"]
    assert lines[-1] == "3 pages (12.0 KiB) match" or PAGE != 4096


def test_a_limit_holds_over_all_ranges(holder: tuple[int, int, int]) -> None:
    pid, base, _ = holder
    ranges = ["--range", f"{base:x}-{base + 3 * PAGE:x}", "--range", f"{base + 3 * PAGE:x}-{base + 8 * PAGE:x}"]
    for limit, complete in ((1, False), (2, False), (4, True)):
        done = pagewatch("scan", "-p", pid, "--where", "present", *ranges, "--max-pages", limit, "--json")
        answer = json.loads(done.stdout)
        assert answer["pages"] == min(limit, 3)
        assert answer["complete"] == complete


def test_hostile_names_of_mappings_cannot_touch_the_terminal(holder: tuple[int, int, int]) -> None:
    pid, _, mapped = holder
    span = f"{mapped:x}-{mapped + PAGE:x}"
    done = pagewatch("scan", "-p", pid, "--where", "present & file", "--range", span)
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert "evil\\x1b[2J\\u202e name" in done.stdout
    as_json = pagewatch("scan", "-p", pid, "--where", "file", "--range", span, "--json").stdout
    assert "\x1b" not in as_json
    assert json.loads(as_json)["regions"][0]["mapping"].endswith("evil\x1b[2J\u202e name")


def test_the_whole_process_is_the_default_and_rows_end_with_their_mapping(holder: tuple[int, int, int]) -> None:
    pid, base, _ = holder
    done = pagewatch("scan", "-p", pid, "--where", "present", "--returned", "all", "--json")
    answer = json.loads(done.stdout)
    maps = [line.split()[0].split("-") for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    spans = [(int(start, 16), int(end, 16)) for start, end in maps]
    assert len(answer["regions"]) > 10
    for row in answer["regions"]:
        assert any(start <= row["start"] < row["end"] <= end for start, end in spans)
        assert "present" in row["categories"]
    assert any(row["start"] == base + PAGE for row in answer["regions"])
    assert answer["pages"] == sum((row["end"] - row["start"]) // PAGE for row in answer["regions"])


def test_memory_that_nobody_armed_is_not_sold_as_written(holder: tuple[int, int, int]) -> None:
    pid, base, _ = holder
    span = f"{base:x}-{base + 8 * PAGE:x}"
    done = pagewatch("scan", "-p", pid, "--where", "written & present", "--range", span, "--json")
    answer = json.loads(done.stdout)
    assert answer["unarmed_pages"] == answer["pages"] == 3
    (warning,) = answer["warnings"]
    assert warning.startswith("3 of 3 matching pages not armed by any tracker")
    assert f"pagewatch record -p {pid}" in warning
    assert done.stderr == f"pagewatch: {warning}\n"
    done = pagewatch("scan", "-p", pid, "--where", "written", "--range", span)
    assert done.stderr.startswith("pagewatch: 8 of 8 matching pages not armed")


def test_a_question_about_something_else_warns_of_nothing(holder: tuple[int, int, int]) -> None:
    pid, base, _ = holder
    span = f"{base:x}-{base + 8 * PAGE:x}"
    for where in ("present", "present & !written", "wpallowed & written"):
        done = pagewatch("scan", "-p", pid, "--where", where, "--range", span, "--json")
        assert done.stderr == ""
        assert json.loads(done.stdout)["warnings"] == []


@requires("uffd_wp_async")
def test_of_armed_memory_written_means_written() -> None:
    with mmap.mmap(-1, 8 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory, track(memory):
        start_address, _ = buffer_span(memory)
        memory[3 * PAGE] = 1
        span = f"{start_address:x}-{start_address + 8 * PAGE:x}"
        done = pagewatch("scan", "-p", os.getpid(), "--where", "written", "--range", span, "--json")
    answer = json.loads(done.stdout)
    assert (answer["pages"], answer["unarmed_pages"], answer["warnings"]) == (1, 0, [])


def test_a_range_where_nothing_is_mapped_is_named(holder: tuple[int, int, int]) -> None:
    pid, _, mapped = holder
    done = pagewatch(
        "scan", "-p", pid, "--where", "present", "--range", "1000-2000", "--range", f"{mapped:x}-{mapped + PAGE:x}"
    )
    assert done.returncode == 0
    assert done.stderr == "pagewatch: the process has nothing mapped in 1000-2000\n"
    assert done.stdout.splitlines()[-1].startswith("1 page (")
    assert done.stdout.splitlines()[-1].endswith(" matches")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--where", "writen"), "did you mean written?"),
        (("--where", "file", "--returned", "file,presnt"), "did you mean present?"),
        (("--where", "written &"), "cannot read"),
        (("--where", "present & !present"), "matches no page"),
        (("--where", "(file | present) & (huge | swapped)"), "more than one group"),
        (("--where", "present", "--returned", "everything"), "everything"),
        (("--where", "present", "--range", "12"), "two hexadecimal addresses"),
        (("--where", "present", "--range", "2000-1000"), "two hexadecimal addresses"),
        (("--where", "present", "--range", "x-y"), "two hexadecimal addresses"),
        (("--where", "present", "--range", "0-1ffffffffffffffff"), "two hexadecimal addresses"),
        (("--where", "present", "--max-pages", "0"), "--max-pages"),
    ],
)
def test_wrong_questions_are_wrong_use(arguments: tuple[str, ...], words: str) -> None:
    assert_short_error(pagewatch("scan", "-p", 1, *arguments), 2, words)


def test_a_process_that_may_not_be_looked_at_is_one_clear_error() -> None:
    if os.geteuid():
        pytest.skip("needs root, to become a user who may not")
    done = restricted.run(["scan", "-p", "1", "--where", "present"], user=restricted.NOBODY)
    assert_short_error(done, 1, "may not be read")
