from pagewatch.report.blindness import Blindness
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


def test_at_most_five_different_details_are_kept() -> None:
    blindness = Blindness(PAGE)
    for index in range(20):
        blindness.add(recordings.epoch(index, [], blind_spots=(spot(index, BlindReason.PINNED, f"ring {index // 2}"),)))
    (figure,) = blindness.figures()
    assert figure.details == ("ring 0", "ring 1", "ring 2", "ring 3", "ring 4")
    assert (figure.pages, figure.epochs, figure.of_epochs) == (20, 20, 20)
