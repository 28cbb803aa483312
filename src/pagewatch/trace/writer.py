"""Writing a recording so that a reader finds everything up to the last flush, however the writer ends."""

import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagewatch.trace.columns import TO_BATCH, MappingEvent, ProcessEvent, StoredEpoch
from pagewatch.trace.directory import clear
from pagewatch.trace.format import (
    END_OF_STREAM,
    FILES,
    JOURNAL,
    MAX_CHUNK_BYTES,
    MAX_LINE_BYTES,
    MAX_ROWS,
    STREAMS,
    Stream,
    schema,
)
from pagewatch.trace.journal import Commit, End, Extent, commit_line, end_line, header_line
from pagewatch.trace.rows import EpochRow, Header, Note
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import TraceError, TrackerClosed
from pagewatch.vocab.mapping import Mapping

if TYPE_CHECKING:
    from pagewatch.vocab.blindspots import BlindSpot

FLUSH_NS = 1_000_000_000
"""Nothing waits longer than this to be written."""
_FLUSH_REGIONS = 400_000
"""Nor do more regions and blind spots wait: 10 MB of memory."""

_MappingKey = tuple[int, int, str]


class TraceWriter(Closing):
    """A recording being made. A context manager; leaving without :meth:`end` leaves a recording cut off.

    Times are nanoseconds since the recording began and never go back.

    Every flush appends to the streams first and then commits with one line of the journal: what a killed
    writer, or a full disk, leaves half written is beyond the last commit, and no reader looks at it.
    """

    def __init__(self, path: Path, header: Header, *, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Begin a recording in the directory ``path``, in place of one that is there.

        :param now_ns: a monotonic clock, to know when a flush is due.
        :raises TraceError: the directory cannot be written to.
        """
        self.path = path
        self.n_epochs = 0
        """Epochs so far, of all processes."""
        self.n_bytes = 0
        """Bytes written so far."""
        self._now_ns = now_ns
        self._waiting: dict[Stream, list[Any]] = {name: [] for name in STREAMS}
        self._waiting_regions = 0
        self._waiting_since_ns: int | None = None
        self._until_ns = 0
        self._n_logged = dict.fromkeys(STREAMS, 0)
        self._mappings: dict[int, dict[_MappingKey, int]] = {}
        self._next_mapping = 0
        self._mappings_full = False
        self._blind_spots: dict[int, tuple[BlindSpot, ...]] = {}
        clear(path)
        self._files: dict[str, _AppendOnly] = {}
        try:
            for name in (JOURNAL, *FILES.values()):
                self._files[name] = _AppendOnly(path / name)
            self._begin(header)
        except BaseException:
            self._close_files()
            raise

    def process_started(self, at_ns: int, pid: int, *, parent_pid: int, name: str) -> None:
        """A process came under tracking."""
        self._log("processes", at_ns, ProcessEvent(at_ns, pid, "started", parent_pid, None, name))
        self._mappings[pid] = {}

    def process_ended(self, at_ns: int, pid: int, *, exit_status: int | None, reason: str) -> None:
        """A process left tracking, and its mappings with it."""
        self.mappings(pid, (), first_ns=at_ns, last_ns=at_ns)
        self._log("processes", at_ns, ProcessEvent(at_ns, pid, "ended", None, exit_status, reason))
        self._mappings.pop(pid, None)
        self._blind_spots.pop(pid, None)

    def mappings(self, pid: int, mappings: Sequence[Mapping], *, first_ns: int, last_ns: int) -> None:
        """What a process has mapped now; only what changed since the last time is stored.

        :param first_ns: since when new mappings count.
        :param last_ns: until when those count that are gone.
        """
        known = self._mappings[pid]
        now = {(m.start, m.end, m.name): m for m in mappings}
        for key in [key for key in known if key not in now]:
            self._log("mappings", last_ns, MappingEvent(last_ns, known.pop(key), None, None))
        for key in [key for key in now if key not in known]:
            # Room is kept for the events that say that the mappings are gone.
            if 2 * self._next_mapping >= MAX_ROWS - 2:
                if not self._mappings_full:
                    self.note(first_ns, "too many mappings: those that appear from now on are not listed")
                self._mappings_full = True
                return
            known[key] = self._next_mapping
            self._log("mappings", first_ns, MappingEvent(first_ns, self._next_mapping, pid, now[key]))
            self._next_mapping += 1

    def epoch(self, row: EpochRow) -> None:
        """One epoch of a process that has started.

        :raises TraceError: what was waiting cannot be written.
        """
        same = self._blind_spots.get(row.pid) == row.blind_spots
        self._blind_spots[row.pid] = row.blind_spots
        self._wait("epochs", row.ended_ns, StoredEpoch(row, same_blind_spots=same))
        self.n_epochs += 1
        self._waiting_regions += len(row.regions) + len(row.assumed) + (0 if same else len(row.blind_spots))
        if self._waiting_regions >= _FLUSH_REGIONS:
            self.flush()
        else:
            self.flush_before(0)

    def note(self, at_ns: int, text: str) -> None:
        """Something worth knowing happened; beyond a million notes the rest is left out."""
        if self._n_logged["notes"] < MAX_ROWS:
            self._log("notes", at_ns, Note(at_ns, text))

    def flush_before(self, pause_ns: int) -> None:
        """Flush if something would wait longer than a second because nothing happens for ``pause_ns``.

        :raises TraceError: it cannot be written.
        """
        since = self._waiting_since_ns
        if since is not None and self._now_ns() + pause_ns - since >= FLUSH_NS:
            self.flush()

    def flush(self) -> None:
        """Write what waits and commit it.

        :raises TraceError: it cannot be written; what was committed before stays readable.
        """
        if self._waiting_since_ns is None:
            return
        chunks = {name: (TO_BATCH[name](rows).serialize(), len(rows)) for name, rows in self._waiting.items() if rows}
        for rows in self._waiting.values():
            rows.clear()
        self._waiting_regions = 0
        self._waiting_since_ns = None
        self._commit(chunks)

    def end(self, at_ns: int, reason: str) -> None:
        """End the recording on purpose; nothing can be added afterwards.

        :param reason: completes "the recording ended: ...".
        :raises TraceError: what waits cannot be written.
        """
        self.flush()
        self._until_ns = max(self._until_ns, at_ns)
        self._commit(dict.fromkeys(STREAMS, (END_OF_STREAM, 0)))
        self._append_to_journal(end_line(End(self._until_ns, reason)))
        self._close_files()

    def close(self) -> None:
        """Release the files; what waits for a flush is written, if that is possible."""
        with suppress(TraceError):
            if self._files:
                self.flush()
        self._close_files()

    def _begin(self, header: Header) -> None:
        line = header_line(header)
        if len(line) >= MAX_LINE_BYTES:
            raise TraceError(self.path, f"the command line is longer than {MAX_LINE_BYTES} bytes")
        self._append_to_journal(line)
        self._commit({name: (schema(name).serialize(), 0) for name in STREAMS})

    def _log(self, stream: Stream, at_ns: int, row: Any) -> None:
        if self._n_logged[stream] >= MAX_ROWS:
            raise TraceError(self.path, f"more than {MAX_ROWS} {stream} cannot be recorded")
        self._n_logged[stream] += 1
        self._wait(stream, at_ns, row)

    def _wait(self, stream: Stream, at_ns: int, row: Any) -> None:
        if not self._files:
            raise TrackerClosed(f"the recording {self.path} was closed")
        self._waiting[stream].append(row)
        self._until_ns = max(self._until_ns, at_ns)
        if self._waiting_since_ns is None:
            self._waiting_since_ns = self._now_ns()

    def _commit(self, chunks: dict[Stream, tuple[Any, int]]) -> None:
        extents: dict[Stream, Extent] = {}
        for name, (chunk, n_rows) in chunks.items():
            if len(chunk) > MAX_CHUNK_BYTES:
                raise TraceError(self.path, f"more than {MAX_CHUNK_BYTES} bytes in one second cannot be recorded")
            offset = self._append(FILES[name], chunk)
            extents[name] = Extent(offset, len(chunk), n_rows, zlib.crc32(chunk))
        self._append_to_journal(commit_line(Commit(self._until_ns, extents)))
        for file in self._files.values():
            file.keep()

    def _append_to_journal(self, line: bytes) -> None:
        self._append(JOURNAL, line)
        self._files[JOURNAL].keep()

    def _append(self, name: str, data: Any) -> int:
        try:
            offset = self._files[name].append(data)
        except OSError as error:
            # What no line commits is given back, which may make room for what others write.
            for file in self._files.values():
                file.drop()
            reason = f"cannot be written ({error.strerror}); what was written before stays readable"
            raise TraceError(self.path, reason) from None
        self.n_bytes += len(data)
        return offset

    def _close_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}


class _AppendOnly:
    """A new file that grows; what was appended last can be taken back until it is kept."""

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            self._fd = os.open(path, flags, 0o666)
        except OSError as error:
            raise TraceError(path, f"cannot be created ({error.strerror})") from None
        self._size = 0
        self._kept = 0

    def append(self, data: Any) -> int:
        """Write all of the data; returns the offset it has."""
        offset = self._size
        rest = memoryview(data)
        while rest:
            n_bytes = os.write(self._fd, rest)
            self._size += n_bytes
            rest = rest[n_bytes:]
        return offset

    def keep(self) -> None:
        self._kept = self._size

    def drop(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._fd, self._kept)
            os.lseek(self._fd, self._kept, os.SEEK_SET)
            self._size = self._kept

    def close(self) -> None:
        os.close(self._fd)
