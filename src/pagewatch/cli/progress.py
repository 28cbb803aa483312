"""One line about a recording that is being made, redrawn on a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pagewatch.record import Progress
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.wording import plural, size

_REDRAW_NS = 200_000_000


@contextmanager
def progress_line(*, shared: bool) -> Iterator[Callable[[Progress], None]]:
    """One line on the terminal, redrawn a few times a second; nothing elsewhere.

    :param shared: whether the program writes to the same terminal, and would be written over.
    """
    if shared or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - only where somebody looks
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn_ns = 0
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:

        def draw(progress: Progress) -> None:
            nonlocal drawn_ns
            if progress.elapsed_ns - drawn_ns >= _REDRAW_NS:
                drawn_ns = progress.elapsed_ns
                live.update(Text(progress_text(progress)), refresh=True)

        yield draw


def progress_text(progress: Progress) -> str:
    """The numbers of a recording in one line."""
    seconds = progress.elapsed_ns / 1e9
    rate = size(progress.n_page_writes * PAGE_SIZE / seconds) if seconds else "-"
    n = progress.n_processes
    epochs = plural(progress.n_epochs, "epoch") + (f" of {n} processes" if n > 1 else "")
    return " · ".join(
        [
            f"{seconds:.1f} s",
            epochs,
            f"{plural(progress.n_page_writes, 'page write')} ({rate}/s)",
            f"recording {size(progress.n_bytes)}",
        ]
    )
