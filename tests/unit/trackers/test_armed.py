"""The books of a tracker."""

from pagewatch.trackers.armed import ArmedMemory, ranges_of, spots_of_mapping
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions

_P = 4096


def _private(start: int, end: int) -> Mapping:
    return Mapping(start * _P, end * _P, "rw-p")


def test_touching_pieces_make_one_span():
    armed = ArmedMemory()
    armed.add([_private(1, 3), _private(3, 5), _private(7, 8)])
    assert armed.spans == ((_P, 5 * _P), (7 * _P, 8 * _P))


def test_dropping_cuts_spans_and_the_blind_spots_in_them():
    armed = ArmedMemory()
    armed.add([Mapping(_P, 9 * _P, "rw-s", inode=3)])
    armed.drop(Regions([(4 * _P, 5 * _P)]))
    assert armed.spans == ((_P, 4 * _P), (5 * _P, 9 * _P))
    assert [(s.start, s.end) for s in armed.spots] == [(_P, 4 * _P), (5 * _P, 9 * _P)]


def test_refused_mappings_are_forgotten_only_when_they_are_gone():
    armed = ArmedMemory()
    mapping = _private(1, 2)
    armed.refuse(mapping, BlindSpot(_P, 2 * _P, BlindReason.REFUSED))
    armed.forget_refused(Regions([(_P, 2 * _P)]))
    assert armed.refused(mapping)
    armed.forget_refused(Regions([(5 * _P, 6 * _P)]))
    assert not armed.refused(mapping)
    assert armed.spots == ()


def test_private_anonymous_memory_has_no_lasting_blind_spot():
    assert spots_of_mapping(_private(1, 2)) == []


def test_a_private_file_mapping_and_a_shared_one_have_their_own_reasons():
    private, shared = (Mapping(_P, 2 * _P, bits, inode=3) for bits in ("rw-p", "rw-s"))
    assert spots_of_mapping(private)[0].reason is BlindReason.PRIVATE_FILE
    assert spots_of_mapping(shared)[0].reason is BlindReason.FILE_CONTENT


def test_the_memory_of_blind_spots_leaves_out_what_is_unmapped():
    armed = Regions([(0, 10 * _P)])
    spots = [
        BlindSpot(_P, 2 * _P, BlindReason.UNMAPPED),
        BlindSpot(3 * _P, 4 * _P, BlindReason.MAPPED_LATE),
        BlindSpot(9 * _P, 12 * _P, BlindReason.PINNED),
    ]
    assert ranges_of(spots, armed) == Regions([(3 * _P, 4 * _P), (9 * _P, 10 * _P)])


def test_what_is_left_out_is_named_once_for_touching_parts_of_the_same_name():
    armed = ArmedMemory()
    armed.leave_out([Mapping(0, 2 * _P, "r--p", name="a"), Mapping(2 * _P, 3 * _P, "r-xp", name="a")])
    assert armed.spots == (BlindSpot(0, 3 * _P, BlindReason.NOT_WRITABLE, "a"),)
    armed.leave_out([])
    assert armed.spots == ()


def test_spots_stay_the_same_object_as_long_as_nothing_changes():
    armed = ArmedMemory()
    armed.add([Mapping(_P, 2 * _P, "rw-s", inode=3)])
    before = armed.spots
    armed.leave_out([])
    armed.set_pins(())
    assert armed.spots is before


def test_page_tables_cost_eight_bytes_a_page_but_for_hugetlb():
    armed = ArmedMemory()
    armed.add([_private(0, 10), Mapping(1 << 30, 2 << 30, "rw-p", page_size=1 << 30)])
    assert armed.table_bytes == 80
    armed.drop(Regions([(0, 4 * _P), (1 << 30, 2 << 30)]))
    assert armed.table_bytes == 48
