"""What every renderer says in the same words about a recording."""

from pagewatch.report.values import Figures, MappingFigure
from pagewatch.vocab.wording import duration, printable


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


def missing(ended_reason: str, ended_ns: int) -> str:
    """What a recording that is not complete lacks, as a sentence."""
    return f"the recording holds only the first {duration(ended_ns)} ({printable(ended_reason)})"
