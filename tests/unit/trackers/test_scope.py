"""Which memory a tracker wants."""

import pytest

from pagewatch.trackers.scope import Everything, Ranges, cut, pieces_within
from pagewatch.vocab.mapping import Mapping

_HUGE = 2 << 20


def _mapping(permissions: str, **named: object) -> Mapping:
    return Mapping(0x10000, 0x20000, permissions, **named)


@pytest.mark.parametrize(
    ("mapping", "wanted"),
    [
        (_mapping("rw-p"), True),
        (_mapping("rw-s", inode=5), True),
        (_mapping("-w-p"), True),
        (_mapping("r-xp"), True),
        (_mapping("r--p"), True),
        (_mapping("r-xp", inode=5, name="/lib/x"), False),
        (_mapping("r--s", inode=5), False),
        (_mapping("---p"), False),
        (_mapping("r-xp", name="[vdso]"), False),
        (_mapping("r--p", name="[vvar_vclock]"), False),
        (_mapping("--xp", name="[vsyscall]"), False),
        (_mapping("rw-p", name="[heap]"), True),
        (_mapping("rw-p", name="[stack]"), True),
    ],
)
def test_everything_is_what_the_program_can_change(mapping, wanted):
    assert (Everything().wanted([mapping]) == [mapping]) is wanted


def test_ranges_are_cut_from_mappings_and_leave_gaps_out():
    low, high = Mapping(0x1000, 0x4000, "rw-p"), Mapping(0x6000, 0x9000, "rw-p")
    found = Ranges([(0x3000, 0x7000)]).wanted([low, high])
    assert [(m.start, m.end) for m in found] == [(0x3000, 0x4000), (0x6000, 0x7000)]


def test_half_a_hugetlb_page_is_taken_as_a_whole_and_once():
    mapping = Mapping(4 * _HUGE, 8 * _HUGE, "rw-p", page_size=_HUGE)
    found = Ranges([(5 * _HUGE + 4096, 5 * _HUGE + 8192), (6 * _HUGE - 4096, 6 * _HUGE)]).wanted([mapping])
    assert [(m.start, m.end) for m in found] == [(5 * _HUGE, 6 * _HUGE)]


def test_cutting_never_leaves_the_mapping():
    mapping = Mapping(0x1000, 0x4000, "rw-p")
    assert cut(mapping, 0, 1 << 40) == mapping


def test_pieces_of_mappings_outside_are_none():
    assert pieces_within([Mapping(0x1000, 0x2000, "rw-p")], 0x2000, 0x3000) == []
