from pagewatch.report.blindness import Blindness, by_reason
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from support import recordings
from support.recordings import PAGE


def spot(page: int, reason: BlindReason, detail: str = "") -> BlindSpot:
    return BlindSpot(page * PAGE, (page + 1) * PAGE, reason, detail)


def test_reasons_and_processes_are_kept_apart_largest_first() -> None:
    blindness = Blindness(PAGE)
    blindness.add(recordings.epoch(0, [], pid=1, blind_spots=(spot(1, BlindReason.PINNED),)))
    both = (spot(1, BlindReason.PINNED), spot(5, BlindReason.REFUSED), spot(9, BlindReason.REFUSED))
    blindness.add(recordings.epoch(0, [], pid=2, blind_spots=both))
    found = [(figure.pid, figure.reason, figure.pages, figure.epochs) for figure in blindness.figures()]
    assert found == [(1, BlindReason.PINNED, 1, 1), (2, BlindReason.REFUSED, 2, 1), (2, BlindReason.PINNED, 1, 1)]


def test_at_most_a_hundred_different_details_are_kept() -> None:
    blindness = Blindness(PAGE)
    for index in range(400):
        blindness.add(recordings.epoch(index, [], blind_spots=(spot(index, BlindReason.PINNED, f"ring {index // 2}"),)))
    (figure,) = blindness.figures()
    assert figure.details == tuple(f"ring {number}" for number in range(100))
    assert (figure.pages, figure.epochs, figure.of_epochs) == (400, 400, 400)


def test_ranges_that_touch_are_one() -> None:
    blindness = Blindness(PAGE)
    spots = (spot(7, BlindReason.PINNED), spot(2, BlindReason.PINNED), spot(3, BlindReason.PINNED))
    blindness.add(recordings.epoch(0, [], blind_spots=spots))
    (figure,) = blindness.figures()
    assert figure.ranges == ((2 * PAGE, 4 * PAGE), (7 * PAGE, 8 * PAGE))


def test_a_hundred_processes_with_one_reason_are_one_line() -> None:
    blindness = Blindness(PAGE)
    for pid in range(1, 101):
        spots = (spot(pid, BlindReason.NOT_FOLLOWED, f"reason {pid}"), spot(pid + 1, BlindReason.NOT_FOLLOWED))
        blindness.add(recordings.epoch(0, [], pid=pid, blind_spots=spots if pid == 42 else spots[:1]))
        blindness.add(recordings.epoch(1, [], pid=pid))
    (summary,) = by_reason(blindness.figures())
    assert summary.reason is BlindReason.NOT_FOLLOWED
    assert (summary.pages, summary.n_ranges, summary.pids) == (101, 100, tuple(range(1, 101)))
    assert (summary.epochs, summary.of_epochs) == (100, 200)
    assert (summary.example, summary.example_pid) == ("reason 42", 42)


def test_reasons_come_with_most_memory_first() -> None:
    blindness = Blindness(PAGE)
    both = (spot(1, BlindReason.PINNED), spot(5, BlindReason.REFUSED), spot(9, BlindReason.REFUSED))
    blindness.add(recordings.epoch(0, [], blind_spots=both))
    found = [(summary.reason, summary.example) for summary in by_reason(blindness.figures())]
    assert found == [(BlindReason.REFUSED, ""), (BlindReason.PINNED, "")]
