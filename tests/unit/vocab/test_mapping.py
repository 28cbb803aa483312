"""What a line of /proc/PID/maps says of itself."""

import dataclasses

import pytest

from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.mapping import Mapping


def test_size_is_the_distance_of_the_bounds():
    assert Mapping(0x1000, 0x4000, "rw-p").nbytes == 0x3000


@pytest.mark.parametrize(
    ("permissions", "words"),
    [
        ("rw-p", {"readable", "writable", "accessible"}),
        ("r-xp", {"readable", "executable", "accessible"}),
        ("r--s", {"readable", "shared", "accessible"}),
        ("---p", set()),
        ("---s", {"shared"}),
        ("-w-p", {"writable", "accessible"}),
        ("--xp", {"executable", "accessible"}),
    ],
)
def test_permissions_are_read_letter_by_letter(permissions, words):
    mapping = Mapping(0, PAGE_SIZE, permissions)
    assert {w for w in ("readable", "writable", "executable", "shared", "accessible") if getattr(mapping, w)} == words


@pytest.mark.parametrize(
    ("permissions", "inode", "anonymous"),
    [("rw-p", 0, True), ("rw-p", 7, False), ("rw-s", 7, False), ("rw-s", 0, False)],
)
def test_anonymous_is_private_without_a_file(permissions, inode, anonymous):
    assert Mapping(0, PAGE_SIZE, permissions, inode=inode).anonymous is anonymous


@pytest.mark.parametrize(
    ("permissions", "name", "label"),
    [("rw-p", "[heap]", "[heap]"), ("rw-p", "", "[anonymous]"), ("rw-s", "", "[shared]"), ("rw-s", "/a b", "/a b")],
)
def test_every_mapping_has_a_label(permissions, name, label):
    assert Mapping(0, PAGE_SIZE, permissions, name=name).label == label


def test_flags_not_asked_for_differ_from_no_flags():
    assert Mapping(0, PAGE_SIZE, "rw-p").flags is None
    assert Mapping(0, PAGE_SIZE, "rw-p", flags=frozenset()).flags == frozenset()


def test_a_mapping_is_a_value():
    mapping = Mapping(0, PAGE_SIZE, "rw-p", flags=frozenset({"rd"}))
    assert {mapping} == {dataclasses.replace(mapping)}
    with pytest.raises(dataclasses.FrozenInstanceError):
        mapping.start = 1
