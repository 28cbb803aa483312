"""The numbers of a recording in one line, by the names that its report has for them."""

from dataclasses import replace

from pagewatch.cli.progress import progress_text
from pagewatch.record import Progress

ONE = Progress(elapsed_ns=2_000_000_000, n_epochs=1, n_page_writes=1, n_bytes=2048, n_processes=1, n_late=0, n_notes=0)


def test_one_is_no_plural() -> None:
    assert progress_text(ONE) == "2.0 s · 1 epoch · 1 page write (2.00 KiB/s) · recording 2.00 KiB"


def test_epochs_of_several_processes_say_so() -> None:
    many = replace(ONE, n_epochs=47, n_page_writes=24_167, n_processes=25)
    assert "· 47 epochs of 25 processes · 24,167 page writes (" in progress_text(many)


def test_a_recording_of_no_time_has_no_rate() -> None:
    assert "(-/s)" in progress_text(replace(ONE, elapsed_ns=0))
