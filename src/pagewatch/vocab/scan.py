"""The result of one PAGEMAP_SCAN, of the live kernel or of the model."""

from dataclasses import dataclass

from pagewatch.vocab.regions import Regions


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan of [start, end) found."""

    regions: Regions
    """Matching pages with the categories that were asked for."""
    walk_end: int
    """Where to go on (bytes): the end of the range, or the first matching page that a limit left out."""
    complete: bool
    """Whether the whole range was walked; if not, a limit ended the scan."""
