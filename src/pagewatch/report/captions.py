"""What every renderer says in the same words about a recording."""

from pagewatch.report.values import BlindSummary, Figures, MappingFigure
from pagewatch.vocab.wording import count, duration, percent, plural, printable, shorten, size

_NAMELESS = {"[anonymous]": "[anon]", "[shared]": "[shared]"}
"""Labels of mappings that only their addresses tell apart, and what they shrink to."""


def name(mapping: MappingFigure, width: int) -> str:
    """What to call a mapping in at most ``width`` letters: two that have no name differ by where they begin."""
    short = _NAMELESS.get(mapping.label)
    if short is None:
        return shorten(mapping.label, width)
    place = f"{mapping.start:x}"
    forms = (f"{mapping.label} {place}", f"{short} {place}", place)
    return next((form for form in forms if len(form) <= width), shorten(place, width))


def process(mapping: MappingFigure) -> str:
    """Which process a mapping belongs to, such as ``redis-server 4211``."""
    return f"{printable(mapping.process)} {mapping.pid}".strip()


def command(figures: Figures) -> str:
    """The recorded command in one line."""
    words = [printable(word) for word in figures.header.command]
    # A program that writes its own title over its arguments leaves empty ones behind.
    while words and not words[-1]:
        words.pop()
    if len(words) < 2:
        return words[0] if words else "(unknown command)"
    return " ".join(word if word and " " not in word else f"'{word}'" for word in words)


def facts(figures: Figures) -> list[str]:
    """How much was recorded, of what, and how; one process has as many epochs as there were rounds."""
    header, totals, n = figures.header, figures.totals, len(figures.processes)
    rate = f"at {header.hz:g} Hz"
    one = [f"{plural(totals.epochs, 'epoch')} {rate}", plural(n, "process", "processes")]
    many = [f"{plural(totals.rounds, 'round')} {rate}", f"{plural(totals.epochs, 'epoch')} of {n:,} processes"]
    return [
        duration(totals.duration_ns),
        *(many if n > 1 else one),
        printable(header.method),
        f"Linux {printable(header.kernel)} {printable(header.machine)}",
    ]


def rewritten(figures: Figures) -> str:
    """Which share of the pages written was written only once."""
    n_pages = figures.totals.unique_pages
    if not n_pages:
        return "nothing was written"
    return f"{percent(sum(bin_.pages for bin_ in figures.rewrites if bin_.at_most == 1) / n_pages)} of pages only once"


def blind(figures: Figures, summary: BlindSummary) -> tuple[str, str, str]:
    """How much memory a blind spot takes, in how many epochs of how many processes and why, and an example."""
    n = len(summary.pids)
    whose = f" of {n:,} processes" if n > 1 else f" of process {summary.pids[0]}" if len(figures.processes) > 1 else ""
    epochs = f"{count(summary.epochs)} of {plural(summary.of_epochs, 'epoch')}"
    extent = f"in {plural(summary.n_ranges, 'range')}{whose}, {epochs}"
    names = {process.pid: f"{process.name} {process.pid}: " for process in figures.processes} if n > 1 else {}
    example = names.get(summary.example_pid, "") + shorten(summary.example, 160) if summary.example else ""
    return size(summary.pages * figures.header.page_size), f"{extent}: {summary.reason.value}", printable(example)


def missing(ended_reason: str, ended_ns: int) -> str:
    """What a recording that is not complete lacks, as a sentence."""
    return f"the recording holds only the first {duration(ended_ns)} ({printable(ended_reason)})"
