"""Rows to Arrow batches and back, vectorised over regions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pagewatch.trace.format import MAX_ADDRESS, MAX_ROWS, schema
from pagewatch.trace.journal import plain_text
from pagewatch.trace.rows import EpochRow, Note
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import REGION, Regions, merge_touching

_TOP = 1 << 64
_MAPPING_FIELDS = ("start", "end", "permissions", "offset", "device", "inode", "name", "page_size", "flags")


class ProcessEvent(NamedTuple):
    """A process came under tracking, or left it."""

    at_ns: int
    pid: int
    event: str
    """``started`` or ``ended``."""
    parent_pid: int | None
    exit_status: int | None
    text: str
    """The name of one that started; why one ended."""


class MappingEvent(NamedTuple):
    """A mapping was first seen, or found gone."""

    at_ns: int
    id: int
    """Names the mapping until it is gone; never used again."""
    pid: int | None
    mapping: Mapping | None
    """None for one that is gone."""


@dataclass(frozen=True, slots=True)
class StoredEpoch:
    """An epoch as it is stored: blind spots are None where they are those of the process's epoch before."""

    row: EpochRow
    same_blind_spots: bool


def processes_to_batch(events: Sequence[ProcessEvent]) -> Any:
    """A record batch of the stream ``processes``."""
    return _batch_of("processes", [event._replace(text=plain_text(event.text)) for event in events])


def processes_from_batch(batch: Any) -> Iterator[ProcessEvent]:
    """Events, as stored.

    :raises ValueError: a value is impossible.
    """
    for values in _tuples(batch):
        event = ProcessEvent(*values)
        _check(event.pid > 0 and event.at_ns >= 0, "a process number or time is negative")
        _check(event.event in ("started", "ended"), f"{event.event!r} is no event of a process")
        yield event


def mappings_to_batch(events: Sequence[MappingEvent]) -> Any:
    """A record batch of the stream ``mappings``."""
    return _batch_of("mappings", [_flat_mapping(event) for event in events])


def mappings_from_batch(batch: Any) -> Iterator[MappingEvent]:
    """Events, as stored.

    :raises ValueError: a value is impossible.
    """
    for at_ns, number, event, pid, *fields in _tuples(batch):
        _check(at_ns >= 0, "a time is negative")
        if event == "gone":
            yield MappingEvent(at_ns, number, None, None)
            continue
        _check(event == "mapped", f"{event!r} is no event of a mapping")
        _check(pid is not None and None not in fields[:-1], "a mapping lacks values")
        values = dict(zip(_MAPPING_FIELDS, fields, strict=True))
        flags = values.pop("flags")
        mapping = Mapping(**values, flags=None if flags is None else frozenset(flags.split()))
        _check(mapping.start < mapping.end and len(mapping.permissions) == 4, "a mapping is impossible")
        _check(0 < mapping.page_size <= _TOP >> 1, "a mapping's page size is impossible")
        yield MappingEvent(at_ns, number, pid, mapping)


def notes_to_batch(notes: Sequence[Note]) -> Any:
    """A record batch of the stream ``notes``."""
    return _batch_of("notes", [note._replace(text=plain_text(note.text)) for note in notes])


def notes_from_batch(batch: Any) -> Iterator[Note]:
    """Notes, as stored.

    :raises ValueError: a value is impossible.
    """
    for at_ns, text in _tuples(batch):
        _check(at_ns >= 0, "a time is negative")
        yield Note(at_ns, text)


def epochs_to_batch(epochs: Sequence[StoredEpoch]) -> Any:
    """A record batch of the stream ``epochs``."""
    import pyarrow as pa  # noqa: PLC0415 - see format.schema

    kinds = schema("epochs")
    rows = [stored.row for stored in epochs]
    spots = [
        None
        if stored.same_blind_spots
        else [
            {"start": s.start, "end": s.end, "reason": s.reason.name, "detail": plain_text(s.detail)}
            for s in stored.row.blind_spots
        ]
        for stored in epochs
    ]
    columns = [
        *(
            pa.array([getattr(row, name) for row in rows], kinds.field(name).type)
            for name in ("pid", "index", "started_ns", "ended_ns")
        ),
        _regions_to_column([row.regions for row in rows], kinds.field("regions").type),
        _regions_to_column([row.assumed for row in rows], kinds.field("assumed").type),
        pa.array(spots, kinds.field("blind_spots").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=kinds)


def epochs_from_batch(batch: Any, page_size: int) -> Iterator[StoredEpoch]:
    """Epochs, as stored.

    :param page_size: of the machine that recorded, bytes.
    :raises ValueError: a value is impossible, or regions are not ascending, disjoint whole pages.
    """
    pids, indices, starts, ends = (batch.column(position).to_pylist() for position in range(4))
    regions = _regions_from_column(batch.column(4), page_size)
    assumed = _regions_from_column(batch.column(5), page_size)
    spots = batch.column(6)
    _check(len(spots.values) <= MAX_ROWS, f"more than {MAX_ROWS} blind spots in one commit")
    for position, (pid, index, started_ns, ended_ns) in enumerate(zip(pids, indices, starts, ends, strict=True)):
        _check(pid > 0 and 0 <= started_ns <= ended_ns, "an epoch's process or times are impossible")
        listed = spots[position].as_py()
        row = EpochRow(
            pid=pid,
            index=index,
            started_ns=started_ns,
            ended_ns=ended_ns,
            regions=next(regions),
            assumed=next(assumed),
            blind_spots=tuple(_blind_spot(**values) for values in listed or ()),
        )
        yield StoredEpoch(row, same_blind_spots=listed is None)


def _blind_spot(start: int, end: int, reason: str, detail: str) -> BlindSpot:
    _check(start < end, "a blind spot ends before it starts")
    _check(reason in BlindReason.__members__, f"the reason {reason[:40]!r} of a blind spot is not known")
    return BlindSpot(start, end, BlindReason[reason], detail)


def _flat_mapping(event: MappingEvent) -> tuple[Any, ...]:
    m = event.mapping
    if m is None:
        return event.at_ns, event.id, "gone", *[None] * 10
    flags = None if m.flags is None else " ".join(sorted(m.flags))
    where = (m.start, m.end, m.permissions, m.offset, m.device, m.inode, plain_text(m.name), m.page_size)
    return event.at_ns, event.id, "mapped", event.pid, *where, flags


def _batch_of(stream: Any, rows: Sequence[tuple[Any, ...]]) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - see format.schema

    kinds = schema(stream)
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=kinds)


def _tuples(batch: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _regions_to_column(sets: Sequence[Regions], kind: Any) -> Any:
    import pyarrow as pa  # noqa: PLC0415 - see format.schema

    offsets = np.zeros(len(sets) + 1, np.int32)
    np.cumsum([len(regions) for regions in sets], out=offsets[1:])
    flat = np.concatenate([regions.array for regions in sets]) if sets else np.empty(0, REGION)
    region = kind.value_type
    fields = [pa.array(np.ascontiguousarray(flat[f.name], _numpy_of(f.name)), f.type) for f in region]
    values = pa.StructArray.from_arrays(fields, fields=list(region))
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind)


def _regions_from_column(column: Any, page_size: int) -> Iterator[Regions]:
    offsets = column.offsets.to_numpy()
    values = column.values
    flat = np.empty(len(values), REGION)
    for position, name in enumerate(("start", "end", "categories")):
        flat[name] = values.field(position).to_numpy()
    for first, last in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        part = flat[first:last]
        _check_canonical(part, page_size)
        yield Regions.from_kernel(merge_touching(part), page_size=page_size)


def _check_canonical(array: npt.NDArray[np.void], page_size: int) -> None:
    starts, ends = array["start"], array["end"]
    _check(bool((starts < ends).all()), "a region ends before it starts")
    _check(not bool(((starts | ends) & np.uint64(page_size - 1)).any()), "a region is not made of whole pages")
    _check(bool((ends[:-1] <= starts[1:]).all()), "regions overlap or are out of order")
    _check(not len(ends) or int(ends[-1]) <= MAX_ADDRESS, f"a region lies beyond {MAX_ADDRESS:#x}, in no user space")


def _numpy_of(name: str) -> type[np.generic]:
    return np.uint32 if name == "categories" else np.uint64


def _check(holds: bool, problem: str) -> None:  # noqa: FBT001 - an assertion
    if not holds:
        raise ValueError(problem)


TO_BATCH: dict[str, Callable[[Any], Any]] = {
    "processes": processes_to_batch,
    "mappings": mappings_to_batch,
    "epochs": epochs_to_batch,
    "notes": notes_to_batch,
}
"""How each stream's rows become a batch."""
