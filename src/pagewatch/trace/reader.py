"""Reading a recording that may be cut off, corrupt or hostile."""

import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from pagewatch.trace.columns import (
    epochs_from_batch,
    mappings_from_batch,
    notes_from_batch,
    processes_from_batch,
)
from pagewatch.trace.directory import open_file
from pagewatch.trace.format import FILES, JOURNAL, MAX_CHUNK_BYTES, MAX_ROWS, STREAMS, Stream
from pagewatch.trace.history import mapping_rows, process_rows
from pagewatch.trace.journal import Commit, End, Extent, read_journal
from pagewatch.trace.messages import read_messages
from pagewatch.trace.rows import EpochRow, Header, MappingRow, Note, ProcessRow
from pagewatch.vocab.errors import TraceError

if TYPE_CHECKING:
    from pagewatch.vocab.blindspots import BlindSpot

_CUT_OFF = "cut off: the recorder was killed or is still running"

_SPARE: frozenset[Stream] = frozenset({"notes"})
"""Streams that no number depends on: where they are cut off, the others count all the same."""

_LOGS: dict[Stream, Callable[[Any], Iterator[Any]]] = {
    "processes": processes_from_batch,
    "mappings": mappings_from_batch,
    "notes": notes_from_batch,
}


@dataclass(frozen=True, slots=True)
class Trace:
    """A recording. All but the epochs is in memory; those are read each time they are asked for."""

    path: Path
    header: Header
    complete: bool
    """Whether the recorder ended on purpose; if not, the recording holds what came before its last flush."""
    ended_reason: str
    """Completes "the recording ended: ..."."""
    ended_ns: int
    """How far the recording reaches."""
    processes: tuple[ProcessRow, ...]
    mappings: tuple[MappingRow, ...]
    notes: tuple[Note, ...]
    damage: str
    """What is lost from the midst of it, in a sentence; empty where nothing is."""
    epoch_count: int
    """How many rows :meth:`epochs` gives."""
    _n_commits: int = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Read a recording's directory.

        :raises TraceError: it is not a recording, corrupt, or of a newer format.
        """
        directory = Path(path)
        history = _read_history(directory)
        try:
            return cls(
                path=directory,
                header=history.header,
                complete=history.complete,
                ended_reason=history.ended_reason,
                ended_ns=history.ended_ns,
                processes=tuple(process_rows(history.logs["processes"], history.ended_ns)),
                mappings=tuple(mapping_rows(history.logs["mappings"])),
                notes=tuple(history.logs["notes"]),
                damage=history.damage,
                epoch_count=history.n_epochs,
                _n_commits=history.n_commits,
            )
        except ValueError as error:
            raise TraceError(directory, f"corrupt: {error}") from None

    def epochs(self) -> Iterator[EpochRow]:
        """Every epoch of every process, in the order in which they were recorded.

        :raises TraceError: the recording is corrupt.
        """
        known = {process.pid for process in self.processes}
        blind_spots: dict[int, tuple[BlindSpot, ...]] = {}
        for stored in self._stored_epochs():
            row = stored.row
            if row.pid not in known:
                raise TraceError(self.path, f"corrupt: an epoch of process {row.pid}, which was never recorded")
            if stored.same_blind_spots:
                # Shared with the epoch before: thousands of equal tuples would not be flat memory.
                row = replace(row, blind_spots=blind_spots.get(row.pid, ()))
            blind_spots[row.pid] = row.blind_spots
            yield row

    def _stored_epochs(self) -> Iterator[Any]:
        with open_file(self.path, JOURNAL) as journal, open_file(self.path, FILES["epochs"]) as file:
            _, entries = read_journal(self.path / JOURNAL, journal)
            for entry in islice(entries, self._n_commits):
                if isinstance(entry, Commit) and "epochs" in entry.extents:
                    extent = entry.extents["epochs"]
                    yield from _read_extent(
                        self.path / FILES["epochs"],
                        file,
                        "epochs",
                        extent,
                        lambda batch: epochs_from_batch(batch, self.header.page_size),
                    )


@dataclass(slots=True)
class _History:
    """What one pass over the journal finds."""

    header: Header
    complete: bool = False
    ended_reason: str = _CUT_OFF
    ended_ns: int = 0
    n_commits: int = 0
    n_epochs: int = 0
    damage: str = ""
    logs: dict[Stream, list[Any]] = field(default_factory=lambda: {name: [] for name in _LOGS})


def _read_history(path: Path) -> _History:
    with ExitStack() as stack:
        journal = stack.enter_context(open_file(path, JOURNAL))
        header, entries = read_journal(path / JOURNAL, journal)
        history = _History(header)
        files = {name: stack.enter_context(open_file(path, FILES[name])) for name in STREAMS}
        for entry in entries:
            match entry:
                case End():
                    history.complete, history.ended_reason = True, entry.reason
                    history.ended_ns = entry.at_ns
                case Commit():
                    cut = _cut_off(entry, files)
                    if cut.keys() - _SPARE:
                        history.ended_reason = f"cut off: {'; '.join(cut.values())}"
                        break
                    if cut and not history.damage:
                        history.damage = f"{'; '.join(cut.values())}: what it held after that is lost"
                        history.logs["notes"].append(Note(history.ended_ns, history.damage))
                    _take(history, entry, path, files, without=cut.keys())
    return history


def _cut_off(commit: Commit, files: dict[Stream, BinaryIO]) -> dict[Stream, str]:
    """The streams that do not reach as far as the commit says, and what to say of each."""
    cut: dict[Stream, str] = {}
    for name, extent in commit.extents.items():
        # Asked anew each time: a recording that is being made grows, its streams before its journal.
        size, promised = os.fstat(files[name].fileno()).st_size, extent.offset + extent.n_bytes
        if size < promised:
            cut[name] = f"{FILES[name]} ends at byte {size:,}, where the journal promises {promised:,}"
    return cut


def _take(
    history: _History, commit: Commit, path: Path, files: dict[Stream, BinaryIO], *, without: Collection[Stream]
) -> None:
    for name, extent in commit.extents.items():
        if name in without:
            continue
        if name == "epochs":
            history.n_epochs += extent.n_rows
            continue
        log = history.logs[name]
        if len(log) + extent.n_rows > MAX_ROWS or extent.offset + extent.n_bytes > MAX_CHUNK_BYTES:
            raise TraceError(path / FILES[name], f"has more than {MAX_ROWS} rows or {MAX_CHUNK_BYTES} bytes")
        log.extend(_read_extent(path / FILES[name], files[name], name, extent, _LOGS[name]))
    history.n_commits += 1
    history.ended_ns = commit.until_ns


def _read_extent(
    path: Path, file: BinaryIO, stream: Stream, extent: Extent, rows_of: Callable[[Any], Iterable[Any]]
) -> Iterator[Any]:
    file.seek(extent.offset)
    data = file.read(extent.n_bytes)
    if len(data) < extent.n_bytes or zlib.crc32(data) != extent.crc32:
        raise TraceError(path, f"corrupt: the checksum of bytes {extent.offset} onwards does not match")
    n_rows = 0
    try:
        for batch in read_messages(stream, data, at_start=extent.offset == 0):
            n_rows += batch.num_rows
            if n_rows > extent.n_rows:
                raise ValueError("more rows than the journal says")
            yield from rows_of(batch)
        if n_rows < extent.n_rows:
            raise ValueError("fewer rows than the journal says")
    except (ValueError, TypeError, OverflowError) as error:
        raise TraceError(path, f"corrupt: {error}") from None
