"""Files of /proc: errors in our words, and names that lie."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.linux.proc import (
    available_bytes,
    hint_for_user,
    open_proc,
    parse_fields,
    ptrace_hint,
    read_field,
    read_fields,
    read_whole,
)
from pagewatch.vocab.errors import TargetGone


def test_fields_are_names_and_values():
    assert parse_fields("Name:\tsh\nVmPin:\t       8 kB\n\nno colon\n") == {"Name": "sh", "VmPin": "8 kB"}


def test_the_first_of_equal_names_wins():
    assert parse_fields("A: 1\nA: 2\n") == {"A": "1"}


@pytest.mark.parametrize("separator", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_newlines_end_a_line(separator):
    """A program may call itself so; the kernel escapes nothing but the newline."""
    assert parse_fields(f"Name:\tx{separator}VmPin: 0 kB\nVmPin:\t8 kB\n")["VmPin"] == "8 kB"


def test_a_value_may_hold_colons():
    assert parse_fields("a: b: c") == {"a": "b: c"}


@given(st.text())
def test_no_text_is_too_odd(text):
    assert all(name == name.strip() for name in parse_fields(text))


def test_fields_of_a_program_whose_name_is_no_utf8(tmp_path):
    path = tmp_path / "status"
    path.write_bytes(b"Name:\t\xff\xfe\nVmPin:\t8 kB\n")
    assert read_fields(str(path)) == {"Name": "\\xff\\xfe", "VmPin": "8 kB"}


@given(st.text("AB: \t\r\n8").map(str.encode))
def test_one_field_is_what_all_fields_have_of_it(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("proc") / "status"
    path.write_bytes(text)
    lines = [line.partition(":") for line in text.decode().split("\n")]
    values = [value.strip() for name, colon, value in lines if (name, colon) == ("A", ":")]
    assert read_field(str(path), "A") == (values[0] if values else "")


def test_files_of_our_own_are_read_whole():
    fd = open_proc(os.getpid(), "maps")
    try:
        text = read_whole(fd)
        assert text.endswith(b"\n")
        assert b"[stack]" in text
        assert read_whole(fd).count(b"[stack]") == 1
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_a_pid_that_cannot_be_is_gone():
    with pytest.raises(TargetGone, match="process 4194305 does not exist"):
        open_proc(4194305, "maps")  # above what pid_max may be


def test_some_memory_is_available():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < available_bytes() <= total


def test_root_is_not_told_to_become_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "as root" not in ptrace_hint()
    assert hint_for_user("be root") == ""
    assert hint_for_user("be root", root="look elsewhere") == "look elsewhere"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert ptrace_hint().startswith("run as root or as the process's user")
    assert hint_for_user("be root", root="look elsewhere") == "be root"
