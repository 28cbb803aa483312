"""The journal of a recording: lines of JSON, each with its own checksum, that say what is valid.

The first line is the header. Each further line commits what was appended to the streams before it; bytes
that no line commits do not count. The last line, if the recorder got that far, is the end. A line that lacks
its newline was cut off and does not count either; a whole line that does not check out is corruption.
"""

import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from pagewatch.trace.format import (
    FORMAT,
    JOURNAL_START,
    MAX_CHUNK_BYTES,
    MAX_LINE_BYTES,
    MAX_PAGE_BYTES,
    MAX_ROWS,
    MAX_TIME_NS,
    STREAMS,
    VERSION,
    Stream,
)
from pagewatch.trace.rows import Header
from pagewatch.vocab.errors import TraceError

_CHECKSUM = b', "crc32": '


@dataclass(frozen=True, slots=True)
class Extent:
    """What a commit appended to one stream."""

    offset: int
    """Bytes of the stream before it."""
    n_bytes: int
    n_rows: int
    crc32: int
    """Of those bytes."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that became valid in one step."""

    until_ns: int
    """How far the recording reaches with this commit, since its beginning."""
    extents: dict[Stream, Extent]


@dataclass(frozen=True, slots=True)
class End:
    """The recorder ended on purpose."""

    at_ns: int
    reason: str


def header_line(header: Header) -> bytes:
    """The first line of a journal."""
    return _line({"format": FORMAT, **asdict(header)})


def commit_line(commit: Commit) -> bytes:
    """A line that makes appended bytes valid."""
    extents = {name: [e.offset, e.n_bytes, e.n_rows, e.crc32] for name, e in commit.extents.items()}
    return _line({"until_ns": commit.until_ns, "streams": extents})


def end_line(end: End) -> bytes:
    """The last line of a recording that ended on purpose."""
    return _line({"end_ns": end.at_ns, "reason": plain_text(end.reason)})


def read_journal(path: Path, file: BinaryIO) -> tuple[Header, Iterator[Commit | End]]:
    """The header, and the commits, then perhaps the end; they stop without one where the journal was cut off.

    :raises TraceError: the journal is not one; as the entries are read: it is corrupt, or makes impossible claims.
    """
    return _read_header(path, file), _read_entries(path, file)


def _read_entries(path: Path, file: BinaryIO) -> Iterator[Commit | End]:
    at: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
    until_ns = 0
    while (fields := _read_line(path, file)) is not None:
        try:
            entry = _entry(fields, at, until_ns)
        except (KeyError, TypeError, ValueError) as error:
            raise TraceError(path, f"corrupt: a line of the journal makes no sense ({error})") from None
        yield entry
        if isinstance(entry, End):
            if file.read(1):
                raise TraceError(path, "corrupt: the journal goes on after its end")
            return
        until_ns = entry.until_ns
        for stream, extent in entry.extents.items():
            at[stream] = extent.offset + extent.n_bytes


def plain_text(text: str) -> str:
    """The text, with what is not Unicode (bytes of odd file names) as an escape such as ``udcff``."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _line(fields: dict[str, Any]) -> bytes:
    text = json.dumps(fields, ensure_ascii=True).encode("ascii")[:-1]
    return text + _CHECKSUM + str(zlib.crc32(text)).encode() + b"}\n"


def _read_line(path: Path, file: BinaryIO) -> dict[str, Any] | None:
    """The fields of the next line; None where the journal ends."""
    line = file.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        if len(line) >= MAX_LINE_BYTES:
            raise TraceError(path, f"corrupt: a line of the journal is longer than {MAX_LINE_BYTES} bytes")
        return None
    text, _, checksum = line.rpartition(_CHECKSUM)
    if checksum != str(zlib.crc32(text)).encode() + b"}\n":
        raise TraceError(path, "corrupt: the checksum of a line of the journal does not match")
    try:
        fields = json.loads(text + b"}")
    except (ValueError, RecursionError):
        raise TraceError(path, "corrupt: a line of the journal is not JSON") from None
    return cast("dict[str, Any]", fields)


def _read_header(path: Path, file: BinaryIO) -> Header:
    start = file.read(len(JOURNAL_START))
    file.seek(0)
    if start != JOURNAL_START:
        raise TraceError(path, "not a recording of pagewatch, or cut off in its first line")
    fields = _read_line(path, file)
    if fields is None:
        raise TraceError(path, "cut off in its first line: nothing can be read from it")
    try:
        version = _integer(fields["version"], 1, MAX_TIME_NS)
        if version != VERSION:
            raise TraceError(
                path,
                f"written in version {version} of the format; this pagewatch reads {VERSION}: upgrade it",
            )
        page_size = _integer(fields["page_size"], 512, MAX_PAGE_BYTES)
        if page_size & (page_size - 1):
            raise ValueError(f"a page of {page_size} bytes")
        return Header(
            version=version,
            created_unix_s=_real(fields["created_unix_s"]),
            command=tuple(_text(word) for word in fields["command"]),
            method=_text(fields["method"]),
            hz=_real(fields["hz"]),
            page_size=page_size,
            kernel=_text(fields["kernel"]),
            machine=_text(fields["machine"]),
        )
    except TraceError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(path, f"corrupt: the header makes no sense ({error})") from None


def _entry(fields: dict[str, Any], at: dict[Stream, int], until_ns: int) -> Commit | End:
    if "end_ns" in fields:
        return End(at_ns=_integer(fields["end_ns"], until_ns, MAX_TIME_NS), reason=_text(fields["reason"]))
    extents: dict[Stream, Extent] = {}
    if not isinstance(fields["streams"], dict):
        raise TypeError("its streams are no object")
    for stream, (offset, n_bytes, n_rows, crc32) in fields["streams"].items():
        extent = Extent(
            # Extents must join up: a line that was lost in between cannot go unnoticed.
            offset=_integer(offset, at[stream], at[stream]),
            n_bytes=_integer(n_bytes, 1, MAX_CHUNK_BYTES),
            n_rows=_integer(n_rows, 0, MAX_ROWS),
            crc32=_integer(crc32, 0, 0xFFFFFFFF),
        )
        extents[stream] = extent
    return Commit(until_ns=_integer(fields["until_ns"], until_ns, MAX_TIME_NS), extents=extents)


def _integer(value: object, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{str(value)[:40]} is not a number from {low} to {high}")
    return value


def _real(value: object) -> float:
    # The comparison also refuses what is not a number, and integers that no float can hold.
    if not isinstance(value, int | float) or not 0 <= value <= 1e18:
        raise ValueError(f"{str(value)[:40]} is not a positive number")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]} is not text")
    return plain_text(value)
