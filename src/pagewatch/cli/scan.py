"""``pagewatch scan``: PAGEMAP_SCAN from the command line."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import click

from pagewatch.cli.text import human_bytes, printable
from pagewatch.linux.process import Process
from pagewatch.vocab.categories import ALL_CATEGORIES, Category
from pagewatch.vocab.errors import InvalidArgument, QueryError
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Region, Regions, join
from pagewatch.vocab.scan import Scan

_Range = tuple[int, int]
_TOP_OF_USER_SPACE = 1 << 63


@click.command("scan")
@click.option("-p", "--pid", type=click.IntRange(min=1), required=True, help="The process to look at.")
@click.option(
    "--where",
    required=True,
    metavar="EXPR",
    help="Which pages to show, such as 'written & (file | !present)'. Categories: "
    + ", ".join(str(category.name).lower() for category in Category)
    + ".",
)
@click.option(
    "--returned",
    metavar="NAMES",
    help="Categories to show of them, separated by commas, or 'all'.  [default: those that EXPR names]",
)
@click.option("--range", "ranges", multiple=True, metavar="A-B", help="Only these addresses (hexadecimal); repeatable.")
@click.option("--max-pages", type=click.IntRange(min=1), help="Stop after that many pages.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *, pid: int, where: str, returned: str | None, ranges: Sequence[str], max_pages: int | None, as_json: bool
) -> None:
    """Ask the kernel once which pages of a process are in what state.

    Nothing in the process changes. WRITTEN says nothing about memory that no tracker has armed.
    """
    query = Query.where(where, _categories(returned))
    wanted = [_parse_range(text) for text in ranges]
    with Process(pid) as process:
        mappings = [m for m in process.maps() if m.end <= _TOP_OF_USER_SPACE]
        scan = _scan(process, query, wanted or _spans(mappings), max_pages or 0)
    rows = list(_rows(scan.regions, mappings))
    if as_json:
        click.echo(json.dumps(_as_json(pid, query, scan, rows)))
        return
    for line in _as_lines(scan, rows):
        click.echo(line)


def _scan(process: Process, query: Query, ranges: Sequence[_Range], max_pages: int) -> Scan:
    """One scan over several ranges, with one limit for all of them."""
    parts: list[Regions] = []
    left, end = max_pages, 0
    for start, end in ranges:
        scan = process.scan(start, end, query, max_pages=left)
        parts.append(scan.regions)
        left -= scan.regions.pages
        if not scan.complete or (max_pages and left <= 0):
            return Scan(join(parts), scan.walk_end, complete=False)
    return Scan(join(parts), end, complete=True)


def _spans(mappings: Sequence[Mapping]) -> list[_Range]:
    return [(mappings[0].start, mappings[-1].end)] if mappings else []


def _rows(regions: Regions, mappings: Sequence[Mapping]) -> Iterator[tuple[Region, Mapping | None]]:
    """Regions cut at the borders of mappings, each with its mapping (None if it is new since)."""
    index = 0
    for start, end, categories in regions:
        at = start
        while at < end:
            while index < len(mappings) and mappings[index].end <= at:
                index += 1
            mapping = mappings[index] if index < len(mappings) and mappings[index].start <= at else None
            following = mappings[index].start if mapping is None and index < len(mappings) else end
            border = min(end, mapping.end if mapping else following)
            yield Region(at, border, categories), mapping
            at = border


def _as_lines(scan: Scan, rows: Sequence[tuple[Region, Mapping | None]]) -> Iterator[str]:
    page_size = scan.regions.page_size
    width = max([len(f"{region.start:x}-{region.end:x}") for region, _ in rows] + [len("RANGE")])
    names = max([len(_names(region.categories)) for region, _ in rows] + [len("CATEGORIES")])
    if rows:
        yield f"{'RANGE':<{width}}  {'PAGES':>9}  {'CATEGORIES':<{names}}  MAPPING"
    for region, mapping in rows:
        where = f"{region.start:x}-{region.end:x}"
        n_pages = (region.end - region.start) // page_size
        label = f"{mapping.permissions} {printable(mapping.label)}" if mapping else "(mapped just now)"
        yield f"{where:<{width}}  {n_pages:>9}  {_names(region.categories):<{names}}  {label}"
    yield f"{scan.regions.pages} pages ({human_bytes(scan.regions.nbytes)}) match"
    if not scan.complete:
        yield f"stopped by --max-pages at {scan.walk_end:x}"


def _as_json(pid: int, query: Query, scan: Scan, rows: Sequence[tuple[Region, Mapping | None]]) -> dict[str, Any]:
    return {
        "pid": pid,
        "where": str(query),
        "pages": scan.regions.pages,
        "complete": scan.complete,
        "walk_end": scan.walk_end,
        "regions": [
            {
                "start": region.start,
                "end": region.end,
                "categories": _name_list(region.categories),
                "permissions": mapping.permissions if mapping else None,
                "mapping": mapping.label if mapping else None,
            }
            for region, mapping in rows
        ],
    }


def _categories(names: str | None) -> Category | None:
    if names is None:
        return None
    if names == "all":
        return ALL_CATEGORIES
    total = Category(0)
    for name in filter(None, (part.strip().upper() for part in names.split(","))):
        if name not in Category.__members__:
            known = ", ".join(_name_list(ALL_CATEGORIES))
            raise QueryError(f"unknown category {name.lower()!r} in --returned; known: {known}, or 'all'")
        total |= Category[name]
    return total


def _parse_range(text: str) -> _Range:
    start, dash, end = text.partition("-")
    try:
        pair = int(start, 16), int(end, 16)
    except ValueError:
        pair = (0, 0)
    if not dash or not 0 <= pair[0] < pair[1] <= _TOP_OF_USER_SPACE:
        raise InvalidArgument(f"--range {text}: give two hexadecimal addresses, such as 7f0000000000-7f0000010000")
    return pair


def _name_list(categories: Category) -> list[str]:
    return [str(category.name).lower() for category in categories]


def _names(categories: Category) -> str:
    return " ".join(_name_list(categories)) or "-"
