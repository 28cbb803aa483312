"""The form of a verb."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pagewatch.model import Process
from pagewatch.scenarios.world import World


class Turn(NamedTuple):
    """Whose statement it is."""

    world: World
    process: Process
    cpu: int


class Verb(NamedTuple):
    """One statement: what it looks like, and what it does."""

    usage: str
    """As the help shows it; square brackets are around what may be left out, dots behind what may be repeated."""
    meaning: str
    act: Callable[[Turn, Sequence[str]], str]
    """Gets the words behind the verb, and returns what there is to say, "" for nothing."""

    @property
    def n_least(self) -> int:
        """How few words may follow."""
        return len([word for word in self.usage.split()[1:] if not word.startswith("[")])

    @property
    def n_most(self) -> int:
        """How many words may follow."""
        return 99 if self.usage.endswith("...]") else len(self.usage.split()) - 1
