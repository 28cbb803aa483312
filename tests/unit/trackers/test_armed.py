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
