"""What one collect has come by so far: it outlives an exception (Ctrl-C) that ends the collect."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

from pagewatch.vocab.blindspots import BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions, join

_NONE = Regions()


@dataclass(slots=True)
class Journal:
    """Entries are made before whatever they tell of can be lost; making one twice does no harm."""

    found: list[Regions] = field(default_factory=list)
    assumed: list[Regions] = field(default_factory=list)
    news: list[BlindSpot] = field(default_factory=list)
    late: list[Mapping] = field(default_factory=list)
    """Late memory that was being armed: if it is armed now, it must still be named and looked at."""
    begun: bool = False
    overlapping: bool = False
    """Whether parts of ``found`` may hold the same page."""

    @property
    def written(self) -> Regions:
        """All that was found."""
        found = self.found
        if self.overlapping:
            return reduce(or_, found, _NONE)
        return found[0] if len(found) == 1 else join(found)

    def spots(self, lasting: tuple[BlindSpot, ...]) -> tuple[BlindSpot, ...]:
        """Lasting blind spots and those of this epoch alone."""
        return (*lasting, *dict.fromkeys(self.news)) if self.news else lasting


def united(parts: Sequence[Regions]) -> Regions:
    """Sets of pages that may overlap, as one."""
    return reduce(or_, parts, _NONE)
