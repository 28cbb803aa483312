"""The journal of a collect."""

from pagewatch.trackers.journal import Journal, united
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.regions import Regions

_P = 4096


def _pages(first: int, last: int) -> Regions:
    return Regions([(first * _P, last * _P)])


def test_what_was_found_twice_counts_once():
    journal = Journal(found=[_pages(1, 3), _pages(2, 5)], overlapping=True)
    assert journal.written == _pages(1, 5)


def test_a_journal_without_entries_found_nothing():
    assert len(Journal().written) == 0


def test_news_noted_twice_are_told_once_and_after_what_lasts():
    lasting = BlindSpot(0, _P, BlindReason.PINNED)
    news = BlindSpot(_P, 2 * _P, BlindReason.UNMAPPED)
    assert Journal(news=[news, news]).spots((lasting,)) == (lasting, news)


def test_without_news_the_lasting_spots_stay_the_same_object():
    lasting = (BlindSpot(0, _P, BlindReason.PINNED),)
    assert Journal().spots(lasting) is lasting


def test_sets_unite():
    assert united([_pages(1, 2), _pages(5, 6), _pages(1, 4)]) == _pages(1, 4) | _pages(5, 6)
