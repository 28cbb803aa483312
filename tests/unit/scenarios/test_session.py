"""Statements, one after the other."""

import pytest

from pagewatch.scenarios.session import HELP, VERBS, Session
from pagewatch.scenarios.world import Broken
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
        ("store a[0]", "it is 'store PAGES TEXT'"),
        ("load b", "no such area"),
        ("load a[9]", "pages 0 to 1"),
        ("advise a nothing", "dontneed"),
        ("wp a", "not shared"),
        ("protect a", "arm or register an area first"),
        ("dma a[0] x", "pin it first"),
        ("fill a[0] x", "register an area first"),
        ("register a nonsense", "there are: missing, wp, minor"),
        ("pin a[0] look", "'read' or 'write'"),
        ("epoch a", "track an area first"),
        ("punch a", "not a file's"),
        ("child load a", "fork first"),
        ("map b many", "not a number"),
        ("map b 2 strange", "strange is no kind"),
        ("map b 2 of c", "no such area"),
        ("map b 512 huge 3M", "3M"),
    ],
)
def test_what_cannot_be_understood_is_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        session("map a 2").run(line)


def test_an_area_can_be_another_mapping_of_the_same_file_huge_and_at_an_address() -> None:
    made = session("map a 2 shared", "store a[1] x", "map b 2 of a shared")
    assert made.run("load b[1]") == "'x'"
    assert made.run("map c 512 huge 2M at 0x40000000") == "c: 0x40000000-0x40200000"
    made.run("store c[0] x")
    assert made.run("look c") == "written: c[0:512]"


def test_a_child_has_its_own_copy_until_it_ends() -> None:
    made = session("map a 1", "store a[0] old", "fork", "child store a[0] new")
    assert (made.run("load a[0]"), made.run("child load a[0]")) == ("'old'", "'new'")
    made.run("child exit")
    assert made.run("load a[0]") == "'old'"


def test_a_page_can_be_filled_once() -> None:
    made = session("map a 2", "register a missing")
    assert made.run("fill a[0] x") == "filled"
    assert made.run("expect-if-stored a[0] x") == "holds"
    assert "exists" in made.run("fill a[0] y")
    assert made.run("expect-if-stored a[0] y") == "nothing was stored"


def test_a_hole_in_a_file_is_seen_by_all_who_map_it() -> None:
    made = session("map a 3 shared", "store a x", "map b 3 of a shared", "punch b[1]")
    assert [made.run(f"load a[{page}]") for page in range(3)] == ["'x'", "''", "'x'"]


def test_the_tracker_tells_what_was_written_and_where_it_is_blind() -> None:
    made = session("map a 9", "store a old", "pin a[2]", "track a", "store a[0] x", "store a[4:9] x")
    said = made.run("epoch a")
    assert said.startswith("written: a[0], a[4:9]; blind: a[2] (pinned")
    assert made.run("expect-told a[2]") == made.run("expect-clean a[1]") == "holds"
    with pytest.raises(Broken, match="neither said so nor that it is blind"):
        made.run("expect-told a[1]")


def test_what_a_device_reads_can_be_claimed_as_long_as_it_has_the_page() -> None:
    made = session("map a 1", "store a[0] old", "pin a[0] read longterm")
    assert made.run("expect-pinned a[0] old") == "holds"
    with pytest.raises(Broken, match="the device reads b'old'"):
        made.run("expect-pinned a[0] new")
    made.run("unpin a[0]")
    assert made.run("expect-pinned a[0] new") == "nothing is pinned"


def test_comments_and_empty_lines_are_nothing() -> None:
    assert session().run("  # a comment") == session().run("") == ""


def test_the_help_names_every_statement() -> None:
    assert all(verb in HELP for verb in VERBS)
