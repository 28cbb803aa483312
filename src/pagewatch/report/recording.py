"""What a report is made from."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pagewatch.trace.rows import EpochRow, Header, MappingRow, Note, ProcessRow


class Recording(Protocol):
    """What a report needs of a recording; :class:`pagewatch.trace.Trace` is one."""

    @property
    def header(self) -> Header:
        """How it was made."""
        ...

    @property
    def complete(self) -> bool:
        """Whether it was ended in order."""
        ...

    @property
    def ended_reason(self) -> str:
        """Why it ended."""
        ...

    @property
    def ended_ns(self) -> int:
        """How far it reaches."""
        ...

    @property
    def processes(self) -> Sequence[ProcessRow]:
        """All processes."""
        ...

    @property
    def mappings(self) -> Sequence[MappingRow]:
        """All mappings with their life times."""
        ...

    @property
    def notes(self) -> Sequence[Note]:
        """What else happened."""
        ...

    def epochs(self) -> Iterator[EpochRow]:
        """All epochs, in the order of their ends; can be asked for again."""
        ...


class Watched:
    """A recording that calls back at every epoch it gives, to show progress."""

    def __init__(self, recording: Recording, advance: Callable[[], object]) -> None:
        self.header = recording.header
        self.complete = recording.complete
        self.ended_reason = recording.ended_reason
        self.ended_ns = recording.ended_ns
        self.processes = recording.processes
        self.mappings = recording.mappings
        self.notes = recording.notes
        self._recording = recording
        self._advance = advance

    def epochs(self) -> Iterator[EpochRow]:
        """As the recording's own."""
        for epoch in self._recording.epochs():
            self._advance()
            yield epoch
