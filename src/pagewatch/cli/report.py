"""``pagewatch report``: show a recording."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from shutil import copymode
from typing import TYPE_CHECKING

import click

from pagewatch.cli import streams
from pagewatch.report import captions
from pagewatch.report.figures import compute
from pagewatch.report.recording import Recording, Watched
from pagewatch.trace import Trace
from pagewatch.vocab import wording

if TYPE_CHECKING:
    from pagewatch.report.values import Figures

_FINE_GRID = (400, 600)
"""Rows and columns of a heatmap whose cells may be as small as pixels."""
_COARSE_GRID = (100, 240)

_STANDARD_OUTPUT = Path("-")
_OUTPUT = click.Path(path_type=Path, dir_okay=False)


@click.command("report")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--text", "as_text", is_flag=True, help="Print a summary with a heatmap (the default).")
@click.option("--html", type=_OUTPUT, metavar="FILE", help="Write one self-contained HTML file (- to print it).")
@click.option("--png", type=_OUTPUT, metavar="FILE", help="Write a picture of the heatmap (- to print it).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--pid", type=click.IntRange(min=1), help="Only this process of the recording.")
@click.option(
    "--width",
    type=click.IntRange(streams.LEAST_COLUMNS, 1000),
    help="Letters a line of text.  [default: the terminal's]",
)
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
def command(
    *,
    directory: Path,
    as_text: bool,
    html: Path | None,
    png: Path | None,
    as_json: bool,
    pid: int | None,
    width: int | None,
    force: bool,
) -> None:
    """Show the recording in DIRECTORY: which pages were written, where and when."""
    chosen = {
        "--text": as_text,
        "--json": as_json,
        "--html": html == _STANDARD_OUTPUT,
        "--png": png == _STANDARD_OUTPUT,
    }
    printed = [option for option, is_chosen in chosen.items() if is_chosen]
    if len(printed) > 1:
        raise click.UsageError(f"{' and '.join(printed)} both go to the standard output; give one of them")
    if html and html == png:
        raise click.UsageError(f"--html and --png would both be written to {html}; give two names")
    for path in (html, png):
        if path and path != _STANDARD_OUTPUT and not force and path.exists():
            raise click.ClickException(f"{path}: exists; overwrite it with --force or give another name")
    trace = Trace.open(directory)

    @cache
    def figures(rows: int, columns: int) -> "Figures":
        with _progress(trace) as watched:
            return compute(watched, rows=rows, columns=columns, pid=pid)

    if html:
        from pagewatch.report.html import render as render_html  # noqa: PLC0415 - needs an extra

        _write(html, render_html(figures(*_FINE_GRID)).encode(), force=force)
    if png:
        from pagewatch.report.png import render as render_png  # noqa: PLC0415 - needs an extra

        _write(png, render_png(figures(*_FINE_GRID)), force=force)
    if as_json:
        from pagewatch.report.as_json import render as render_json  # noqa: PLC0415 - imported when used

        click.echo(render_json(figures(*_COARSE_GRID)))
    elif as_text or not (html or png):
        from pagewatch.report.text import grid_size  # noqa: PLC0415 - as above
        from pagewatch.report.text import render as render_text  # noqa: PLC0415 - as above

        console = streams.console(width)
        render_text(figures(*grid_size(console)), console)
    if trace.damage:
        click.echo(f"pagewatch: {trace.damage}", err=True)
    if not trace.complete:
        click.echo(f"pagewatch: {captions.missing(trace.ended_reason, trace.ended_ns)}", err=True)


@contextmanager
def _progress(trace: Trace) -> Iterator[Recording]:
    """The recording, showing on a terminal how far its epochs are read."""
    if not sys.stderr.isatty():
        yield trace
        return
    from rich.console import Console  # noqa: PLC0415 - only at a terminal
    from rich.progress import Progress  # noqa: PLC0415 - as above

    with Progress(console=Console(stderr=True), transient=True) as progress:
        # The epochs are read twice.
        task = progress.add_task("reading epochs", total=2 * trace.epoch_count)
        yield Watched(trace, lambda: progress.advance(task))


def _write(path: Path, data: bytes, *, force: bool) -> None:
    """Write a whole file or none."""
    if path == _STANDARD_OUTPUT:
        sys.stdout.buffer.write(data)
        return
    # What is overwritten stays until the new one is whole; but a device, or a pipe, is only written to.
    replaced = path.resolve() if force and path.is_file() else None
    written = replaced.with_name(f".{replaced.name}.{os.getpid()}") if replaced else path
    with written.open("wb" if force else "xb") as file:
        try:
            file.write(data)
            file.flush()
            if replaced:
                copymode(replaced, written)
                written.replace(replaced)
        except OSError as error:
            with suppress(OSError):
                if written.is_file():
                    written.unlink()
            raise click.ClickException(f"{path}: cannot be written ({error.strerror})") from None
    click.echo(f"pagewatch: wrote {path} ({wording.size(len(data))})", err=True)
