from pagewatch.report.figures import compute
from pagewatch.report.recording import Watched
from support.recordings import Lively


def test_a_watched_recording_reads_as_itself_and_calls_at_every_epoch() -> None:
    plain = Lively(n_epochs=12).recording()
    calls: list[int] = []
    watched = Watched(plain, lambda: calls.append(1))
    assert compute(watched, rows=5, columns=5).totals == compute(plain, rows=5, columns=5).totals
    assert len(calls) == 2 * len(plain.all_epochs)
