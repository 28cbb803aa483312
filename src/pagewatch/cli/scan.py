"""``pagewatch scan``: PAGEMAP_SCAN from the command line."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import click

from pagewatch.linux.process import Process
from pagewatch.vocab.categories import ALL_CATEGORIES, Category
from pagewatch.vocab.errors import InvalidArgument, QueryError
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query, near
from pagewatch.vocab.regions import Region, Regions, join
from pagewatch.vocab.scan import Scan
from pagewatch.vocab.wording import plural, printable, size

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

    Nothing in the process changes. WRITTEN says nothing about memory that no tracker has armed: it always
    counts as written.
    """
    query = Query.where(where, _categories(returned))
    wanted = [_parse_range(text) for text in ranges]
    with Process(pid) as process:
        mappings = [m for m in process.maps() if m.end <= _TOP_OF_USER_SPACE]
        # What is armed is asked for in the same scan, so that both are true at one time.
        asked = replace(query, returned=query.returned | Category.WPALLOWED)
        seen = _scan(process, asked, wanted or _spans(mappings), max_pages or 0)
    scan = replace(seen, regions=seen.regions.showing(query.returned))
    unarmed = seen.regions - seen.regions.having(Category.WPALLOWED) if _tells_written(query) else Regions()
    warnings = [*_unmapped(wanted, mappings), *_never_armed(pid, unarmed, seen.regions)]
    rows = list(_rows(scan.regions, mappings))
    if as_json:
        click.echo(
            json.dumps(_as_json(pid, query, scan, rows) | {"unarmed_pages": unarmed.pages, "warnings": warnings})
        )
    else:
        for line in _as_lines(scan, rows):
            click.echo(line)
    for warning in warnings:
        click.echo(f"pagewatch: {warning}", err=True)


def _tells_written(query: Query) -> bool:
    """Whether the answer says of pages that they are written."""
    asked = (query.mask | query.anyof) & ~query.inverted
    return bool((asked | query.returned) & Category.WRITTEN)


def _never_armed(pid: int, unarmed: Regions, found: Regions) -> Iterator[str]:
    """What WRITTEN is worth there."""
    if unarmed.pages:
        yield (
            f"{unarmed.pages:,} of {plural(found.pages, 'matching page')} not armed by any tracker; "
            f"such memory always counts as written. To see writes: pagewatch record -p {pid}"
        )


def _unmapped(ranges: Sequence[_Range], mappings: Sequence[Mapping]) -> Iterator[str]:
    """Ranges that nobody could find anything in."""
    for start, end in ranges:
        if not any(mapping.start < end and start < mapping.end for mapping in mappings):
            yield f"the process has nothing mapped in {start:x}-{end:x}"


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
    verb = "matches" if scan.regions.pages == 1 else "match"
    yield f"{plural(scan.regions.pages, 'page')} ({size(scan.regions.nbytes)}) {verb}"
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
            raise QueryError(f"unknown category {name.lower()!r} in --returned; {near(name)}")
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
