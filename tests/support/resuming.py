"""Scans that go on where the one before ended."""

from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.vocab.query import Query
from pagewatch.vocab.scan import Scan
from support.area import Area


def resumed(
    scanner: PagemapScanner, memory: Area, query: Query, *, first: int = 0, last: int | None = None, **options: object
) -> list[Scan]:
    """All scans of pages [first, last). Each must make progress and say truly whether it is the last."""
    position, end = memory.at(first), memory.at(memory.n_pages if last is None else last)
    scans: list[Scan] = []
    while position < end:
        scans.append(scanner.scan(position, end, query, **options))
        assert position < scans[-1].walk_end <= end, "a resume must make progress"
        assert scans[-1].complete == (scans[-1].walk_end == end)
        position = scans[-1].walk_end
    return scans


def pages_of_all(memory: Area, scans: list[Scan]) -> list[int]:
    """Every page that the scans report, in their order; one that comes twice is listed twice."""
    return [page for scan in scans for page in memory.pages(scan.regions)]
