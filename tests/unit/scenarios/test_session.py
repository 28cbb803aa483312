"""Statements, one after the other."""

import pytest

from pagewatch.scenarios.session import _VERBS, HELP, Broken, Session
from pagewatch.vocab.errors import InvalidArgument


def session(*lines: str) -> Session:
    made = Session()
    for line in lines:
        made.run(line)
    return made


def test_what_is_stored_is_loaded() -> None:
    assert session("map a 2", "store a[1] hello").run("load a[1]") == "'hello'"


def test_a_collect_tells_what_was_written_since_the_last() -> None:
    made = session("map a 4", "arm a", "store a[1] x", "store a[2] x")
    assert made.run("collect a") == "written: a[1], a[2]"
    assert made.run("collect a") == "written: none"


def test_a_signal_and_an_errno_are_answers() -> None:
    made = session("map a 1 disk", "advise a pageout")
    assert made.run("advise a guard_install") == ""
    assert made.run("load a[0]").startswith("SIGSEGV")


def test_the_helpers_clean_and_keep() -> None:
    made = session("map a 2 shared", "store a[1] x")
    assert made.run("wp a") == "1 made read-only"
    assert made.run("clean a") == "1 cleaned"
    assert made.run("expect-kept a[1]") == "holds"


def test_a_page_can_go_to_a_device_fail_and_be_pinned() -> None:
    made = session("map a 3", "store a x", "store a[1] y", "store a[2] z")
    assert made.run("migrate a[0]") == "moved: a[0]"
    assert made.run("fail a[1]").startswith("Memory failure")
    assert made.run("load a[1]").startswith("SIGBUS")
    made.run("pin a[2]")
    made.run("dma a[2] device")
    assert made.run("load a[2]") == "'device'"


def test_an_expectation_that_does_not_hold_says_what_is_there() -> None:
    with pytest.raises(Broken, match="holds b'old', not b'new'"):
        session("map a 1", "store a[0] old").run("expect a[0] new")


def test_one_attempt_is_not_a_fault() -> None:
    made = session("map a 1")
    assert made.run("try-store a[0] x") == "would fault"
    assert made.run("expect-fault") == "holds"
    made.run("store a[0] y")
    assert made.run("try-store a[0] x") == "stored"
    assert made.run("expect-if-stored a[0] x") == "holds"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "no statement"),
        ("store a[0]", "takes 2 to 2 words"),
        ("load b", "no such area"),
        ("load a[9]", "pages 0 to 1"),
        ("advise a nothing", "dontneed"),
        ("wp a", "not shared"),
        ("protect a", "arm an area first"),
        ("dma a[0] x", "pin it first"),
    ],
)
def test_what_cannot_be_understood_is_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        session("map a 2").run(line)


def test_comments_and_empty_lines_are_nothing() -> None:
    assert session().run("  # a comment") == session().run("") == ""


def test_the_help_names_every_statement() -> None:
    assert all(verb in HELP for verb in _VERBS)
