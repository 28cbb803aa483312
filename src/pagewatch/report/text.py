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
_LEAST_LABEL = 18
_BAR_WIDTH = 12
_BAR_PARTS = " ▏▎▍▌▋▊▉█"


def grid_size(console: Console) -> tuple[int, int]:
    """Rows and columns that figures should have for :func:`render` on this console."""
    return textmap.grid_size(console.width, in_colour=in_colour(console))


def in_colour(console: Console) -> bool:
    """Whether colours reach the reader."""
    return console.color_system is not None and not console.no_color


def render(figures: Figures, console: Console) -> None:
    """Print the report; colours and width are the console's."""
    for part in _parts(figures, console):
        console.print(part)


def _parts(figures: Figures, console: Console) -> Iterator[RenderableType]:
    yield _heading(figures)
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
        yield _hottest(figures)
    yield _section("What these numbers cannot contain")
    yield _blind_spots(figures)
    if figures.notes:
        yield _section("Notes")
        yield _notes(figures)


def _section(title: str) -> RenderableType:
    return Group(Text(), Rule(Text(title, "bold"), align="left", style="dim"))


def _indented(*lines: RenderableType) -> RenderableType:
    return Padding(Group(*lines), (0, 0, 0, 2), expand=False)


def _heading(figures: Figures) -> RenderableType:
    header, totals = figures.header, figures.totals
    facts = [
        wording.duration(totals.duration_ns),
        f"{wording.count(totals.epochs)} epochs at {header.hz:g} Hz",
        _plural(len(figures.processes), "process", "processes"),
        wording.printable(header.method),
        f"Linux {wording.printable(header.kernel)} {wording.printable(header.machine)}",
    ]
    lines = [Text(captions.command(figures), "bold", overflow="ellipsis", no_wrap=True), Text(" · ".join(facts), "dim")]
    if not figures.complete:
        warning = captions.missing(figures.ended_reason, totals.duration_ns)
        lines.append(Text(f"{warning[0].upper()}{warning[1:]}", "bold yellow"))
    return Group(*lines)


def _summary(figures: Figures, width: int) -> RenderableType:
    totals, page = figures.totals, figures.header.page_size
    once = sum(bin_.pages for bin_ in figures.rewrites if bin_.at_most == 1)
    peak = wording.size(totals.peak_round_pages * page)
    once_share = once / totals.unique_pages if totals.unique_pages else 0.0
    facts = [
        ("pages written", wording.size(totals.unique_pages * page), f"{wording.count(totals.unique_pages)} pages"),
        ("page writes", wording.count(totals.page_writes), f"{wording.size(totals.page_writes_per_s * page)}/s"),
        ("per collect", wording.size(totals.median_round_pages * page), f"median; peak {peak}"),
        ("rewritten", wording.factor(totals.rewrite_factor), f"{wording.percent(once_share)} only once"),
    ]
    if totals.assumed_page_writes:
        share = wording.percent(totals.assumed_page_writes / totals.page_writes)
        facts.append(("assumed", wording.count(totals.assumed_page_writes), f"page writes ({share}) not watched"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    pairs = 2 if width >= 92 else 1
    for start in range(0, len(facts), pairs):
        cells: list[RenderableType] = []
        for name, number, more in facts[start : start + pairs]:
            cells += [Text(name, "dim"), Text(number, "bold cyan", justify="right"), Text(more)]
        grid.add_row(*cells)
    return Group(Text(), _indented(grid))


def _mappings(figures: Figures, width: int) -> RenderableType:
    columns = _columns(figures, width)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("mapping", no_wrap=True, overflow="ellipsis")
    for name, least, justify, _ in columns:
        table.add_column(name, min_width=least, justify=justify, no_wrap=True, overflow="ellipsis")
    label_width = max(width - 2 - sum(least + 2 for _, least, _, _ in columns), _LEAST_LABEL)
    shown = [mapping for mapping in figures.mappings if mapping.page_writes][:_N_MAPPINGS]
    for mapping in shown or figures.mappings[:_N_MAPPINGS]:
        cells = (cell(mapping) for _, _, _, cell in columns)
        table.add_row(Text(wording.shorten(mapping.label, label_width)), *cells)
    lines: list[RenderableType] = [table]
    if len(figures.mappings) > table.row_count:
        rest = sum(m.page_writes for m in figures.mappings) - sum(m.page_writes for m in shown)
        more = _plural(len(figures.mappings) - table.row_count, "writable mapping", "writable mappings")
        lines.append(Text(f"and {more} more, with {wording.count(rest)} page writes", "dim"))
    return _indented(*lines)


_Column = tuple[str, int, JustifyMethod, Callable[[MappingFigure], RenderableType]]


def _columns(figures: Figures, width: int) -> list[_Column]:
    """Name, width, justification and content of the columns that fit, after the mapping's name."""
    page = figures.header.page_size
    columns: list[_Column] = [
        ("size", 8, "right", lambda m: wording.size(m.writable_pages * page)),
        ("written", 8, "right", lambda m: wording.size(m.unique_pages * page)),
        ("share", _BAR_WIDTH + 7, "left", lambda m: _bar(m.share_written)),
        ("page writes", 11, "right", lambda m: wording.count(m.page_writes)),
        ("per page", 8, "right", lambda m: wording.factor(m.rewrite_factor)),
        ("per second", 10, "right", lambda m: wording.size(m.page_writes_per_s * page)),
        ("first – last write", 18, "left", _span),
    ]
    if len(figures.processes) > 1:
        columns.insert(0, ("process", 16, "left", lambda m: Text(wording.shorten(captions.process(m), 16), "dim")))
    while len(columns) > 2 and width - sum(least + 2 for _, least, _, _ in columns) < _LEAST_LABEL + 2:
        columns.pop()
    return columns


def _span(mapping: MappingFigure) -> str:
    if mapping.first_write_ns is None or mapping.last_write_ns is None:
        return "never"
    return f"{wording.duration(mapping.first_write_ns)} – {wording.duration(mapping.last_write_ns)}"


def _bar(share: float) -> Text:
    """A bar of eighths of a letter, never empty for something and never full for less than all."""
    eighths = round(share * _BAR_WIDTH * 8)
    if 0 < share < 1:
        eighths = min(max(eighths, 1), _BAR_WIDTH * 8 - 1)
    full, part = divmod(eighths, 8)
    bar = ("█" * full + (_BAR_PARTS[part] if part else "")).ljust(_BAR_WIDTH)
    return Text.assemble((bar, "magenta"), " ", wording.percent(share))


def _hottest(figures: Figures) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for hot in figures.hottest[:_N_HOTTEST]:
        mapping = figures.mappings[hot.mapping]
        epochs = f"{wording.count(hot.epochs)} of {wording.count(hot.of_epochs)} epochs"
        grid.add_row(
            wording.addresses(hot.start, hot.end),
            Text(wording.size(hot.end - hot.start), justify="right"),
            Text(epochs, "bold cyan", justify="right"),
            Text(wording.shorten(mapping.label, 40)),
        )
    return _indented(grid)


def _blind_spots(figures: Figures) -> RenderableType:
    page = figures.header.page_size
    lines = [Text("Writes between two collects count once, however many they were.")]
    for blind in figures.blind_spots:
        size = wording.size(blind.pages * page)
        epochs = f"{wording.count(blind.epochs)} of {wording.count(blind.of_epochs)} epochs"
        line = Text.assemble((f"{size} in {epochs}", "yellow"), f" of process {blind.pid}: {blind.reason.value}")
        if blind.details:
            line.append(f" ({'; '.join(wording.shorten(detail, 60) for detail in blind.details)})", "dim")
        lines.append(line)
    if not figures.blind_spots and figures.totals.epochs:
        lines.append(Text("The method in use reported no blind spots.", "dim"))
    return _indented(*lines)


def _notes(figures: Figures) -> RenderableType:
    lines = [
        Text.assemble((f"{wording.duration(note.at_ns):>8}  ", "dim"), wording.printable(note.text))
        for note in figures.notes[:_N_NOTES]
    ]
    if len(figures.notes) > _N_NOTES:
        lines.append(Text(f"and {len(figures.notes) - _N_NOTES} more notes", "dim"))
    return _indented(*lines)


def _plural(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
