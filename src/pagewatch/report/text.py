"""The report for a terminal, or as plain text where the output is none."""

from collections.abc import Callable, Iterator

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from pagewatch.report import captions, textmap
from pagewatch.report.values import Figures, MappingFigure
from pagewatch.vocab import wording

_N_MAPPINGS = 12
_N_HOTTEST = 5
_N_NOTES = 8
_INDENT = 2
_LEAST_LABEL = 19
"""Letters: ``[anon]`` and an address."""
_ADDRESS = 12
_WIDE, _NARROW, _TINY = 110, 72, 56
_COMMAND_LINES = 3
_BAR_PARTS = " ▏▎▍▌▋▊▉█"


def grid_size(console: Console) -> tuple[int, int]:
    """Rows and columns that figures should have for :func:`render` on this console."""
    return textmap.grid_size(console.width, in_colour=in_colour(console))


def in_colour(console: Console) -> bool:
    """Whether colours reach the reader."""
    return console.color_system is not None and not console.no_color


def render(figures: Figures, console: Console) -> None:
    """Print the report; colours and width are the console's."""
    with console.capture() as printed:
        for part in _parts(figures, console):
            console.print(part)
    # Tables pad their lines: nobody who copies them wants that.
    console.file.write("".join(f"{line.rstrip(' ')}\n" for line in printed.get().splitlines()))


def _parts(figures: Figures, console: Console) -> Iterator[RenderableType]:
    yield _heading(figures, console.width)
    yield _summary(figures, console.width)
    if figures.totals.page_writes:
        yield _section("Where and when")
        yield textmap.heatmap(figures, console.width, in_colour=in_colour(console))
    else:
        yield Group(Text(), _indented(Text("No write was seen in this recording.")))
    if figures.mappings:
        yield _section("Mappings")
        yield _mappings(figures, console.width)
    if figures.hottest:
        yield _section("Hottest pages")
        yield _hottest(figures, console.width)
    yield _section("What these numbers cannot contain")
    yield _blind_spots(figures)
    if figures.notes:
        yield _section("Notes")
        yield _notes(figures)


def _section(title: str) -> RenderableType:
    return Group(Text(), Rule(Text(title, "bold"), align="left", style="dim"))


def _indented(*lines: RenderableType) -> RenderableType:
    return Padding(Group(*lines), (0, 0, 0, _INDENT), expand=False)


def _heading(figures: Figures, width: int) -> RenderableType:
    command = wording.shorten(captions.command(figures), _COMMAND_LINES * width)
    lines = [Text(command, "bold", overflow="fold")]
    lines += [Text(line, "dim") for line in wording.flow(captions.facts(figures), " · ", width)]
    if not figures.complete:
        warning = captions.missing(figures.ended_reason, figures.totals.duration_ns)
        lines.append(Text(f"{warning[0].upper()}{warning[1:]}", "bold yellow"))
    return Group(*lines)


def _summary(figures: Figures, width: int) -> RenderableType:
    totals, page = figures.totals, figures.header.page_size
    peak = wording.size(totals.peak_round_pages * page)
    facts = [
        ("unique pages", wording.count(totals.unique_pages), f"{wording.size(totals.unique_pages * page)} of memory"),
        ("page writes", wording.count(totals.page_writes), f"{wording.size(totals.page_writes_per_s * page)}/s"),
        ("per collect", wording.size(totals.median_round_pages * page), f"median; peak {peak}"),
        ("rewritten", wording.factor(totals.rewrite_factor), captions.rewritten(figures)),
    ]
    if totals.assumed_page_writes:
        share = wording.percent(totals.assumed_page_writes / totals.page_writes)
        facts.append(("assumed", wording.count(totals.assumed_page_writes), f"page writes ({share}) not watched"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    pairs = 2 if width >= _WIDE else 1
    for start in range(0, len(facts), pairs):
        cells: list[RenderableType] = []
        for name, number, more in facts[start : start + pairs]:
            cells += [Text(name, "dim"), Text(number, "bold cyan", justify="right"), Text(more)]
        grid.add_row(*cells)
    return Group(Text(), _indented(grid))


def _mappings(figures: Figures, width: int) -> RenderableType:
    columns = _columns(figures, width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("mapping", no_wrap=True, overflow="ellipsis", vertical="bottom")
    for name, least, justify, _ in columns:
        table.add_column(name, min_width=least, justify=justify, no_wrap=True, overflow="ellipsis", vertical="bottom")
    label_width = width - _INDENT - sum(least + 2 for _, least, _, _ in columns)
    shown = [mapping for mapping in figures.mappings if mapping.page_writes][:_N_MAPPINGS]
    for mapping in shown or figures.mappings[:_N_MAPPINGS]:
        cells = (cell(mapping) for _, _, _, cell in columns)
        table.add_row(Text(captions.name(mapping, max(label_width, _ADDRESS))), *cells)
    lines: list[RenderableType] = [table]
    if len(figures.mappings) > table.row_count:
        rest = sum(m.page_writes for m in figures.mappings) - sum(m.page_writes for m in shown)
        more = wording.plural(len(figures.mappings) - table.row_count, "more writable mapping")
        written = f"with {wording.plural(rest, 'page write')}" if rest else "never written"
        lines.append(Text(f"and {more}, {written}", "dim"))
    return _indented(*lines)


_Column = tuple[str, int, JustifyMethod, Callable[[MappingFigure], RenderableType]]


def _columns(figures: Figures, width: int) -> list[_Column]:
    """Name, width, justification and content of the columns that fit beside the mapping's name."""
    page = figures.header.page_size
    bar_width = 12 if width >= _WIDE else 6
    columns: list[_Column] = [
        ("size", 8, "right", lambda m: wording.size(m.writable_pages * page)),
        ("unique\npages", 8, "right", lambda m: wording.size(m.unique_pages * page)),
        ("page\nwrites", 7, "right", lambda m: wording.count(m.page_writes)),
        ("share", bar_width + 6, "left", lambda m: bar(m.share_written, bar_width)),
        ("per\npage", 6, "right", lambda m: wording.factor(m.rewrite_factor)),
        ("per\nsecond", 10, "right", lambda m: f"{wording.size(m.page_writes_per_s * page)}/s"),
        ("first – last\nwrite", 18, "left", _span),
        ("addresses", 25, "left", lambda m: Text(wording.addresses(m.start, m.end), "dim")),
    ]
    if len(figures.processes) > 1:
        columns.insert(0, _process_column(figures, width))
    least_label = _ADDRESS if width < _TINY else _LEAST_LABEL
    while len(columns) > 2 and width - _INDENT - sum(least + 2 for _, least, _, _ in columns) < least_label:
        columns.pop()
    return columns


def _process_column(figures: Figures, width: int) -> _Column:
    """Whose a mapping is; by number alone where letters are few."""
    if width >= _WIDE:
        return ("process", 16, "left", lambda m: Text(wording.shorten(captions.process(m), 16), "dim"))
    digits = max(len(str(process.pid)) for process in figures.processes)
    return ("pid", max(digits, 3), "right", lambda m: Text(str(m.pid), "dim"))


def _span(mapping: MappingFigure) -> str:
    if mapping.first_write_ns is None or mapping.last_write_ns is None:
        return "never"
    return f"{wording.duration(mapping.first_write_ns)} – {wording.duration(mapping.last_write_ns)}"


def bar(share: float, width: int) -> Text:
    """A bar of eighths of a letter, never empty for something and never full for less than all."""
    eighths = round(share * width * 8)
    if 0 < share < 1:
        eighths = min(max(eighths, 1), width * 8 - 1)
    full, part = divmod(eighths, 8)
    drawn = ("█" * full + (_BAR_PARTS[part] if part else "")).ljust(width)
    return Text.assemble((drawn, "magenta"), " ", wording.percent(share))


def _hottest(figures: Figures, width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    many = len(figures.processes) > 1
    for hot in figures.hottest[:_N_HOTTEST]:
        mapping = figures.mappings[hot.mapping]
        span = wording.addresses(hot.start, hot.end) if width >= _NARROW else f"{hot.start:x}"
        of_epochs = wording.count(hot.of_epochs) if width < _TINY else wording.plural(hot.of_epochs, "epoch")
        epochs = f"{wording.count(hot.epochs)} of {of_epochs}"
        size = wording.size(hot.end - hot.start)
        owner = f"{mapping.pid} " if many else ""
        room = width - _INDENT - len(span) - len(size) - len(epochs) - len(owner) - 6
        cells = [Text(span), Text(size, justify="right"), Text(epochs, "bold cyan", justify="right")]
        if width >= _TINY:
            cells.append(Text.assemble((owner, "dim"), wording.shorten(mapping.label, max(room, 8))))
        grid.add_row(*cells)
    return _indented(grid)


def _blind_spots(figures: Figures) -> RenderableType:
    lines: list[RenderableType] = [Text("Writes between two collects count once, however many they were.")]
    for summary in figures.blind_reasons:
        size, extent, example = captions.blind(figures, summary)
        lines.append(Text.assemble((size, "yellow"), f" {extent}"))
        if example:
            lines.append(Padding(Text(f"for example {example}", "dim", overflow="fold"), (0, 0, 0, 2), expand=False))
    if len(figures.blind_spots) > len(figures.blind_reasons):
        lines.append(Text("Process by process, with addresses: --json", "dim"))
    if not figures.blind_spots and figures.totals.epochs:
        lines.append(Text("The method in use reported no blind spots.", "dim"))
    return _indented(*lines)


def _notes(figures: Figures) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for note in figures.notes[:_N_NOTES]:
        time = Text(wording.duration(note.at_ns), "dim", justify="right", no_wrap=True)
        grid.add_row(time, Text(wording.printable(note.text), overflow="fold"))
    lines: list[RenderableType] = [grid]
    if len(figures.notes) > _N_NOTES:
        lines.append(Text(f"and {wording.plural(len(figures.notes) - _N_NOTES, 'more note')}", "dim"))
    return _indented(*lines)
