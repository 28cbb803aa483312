"""The format of a recording: file names, limits and Arrow schemas. ``docs/format.md`` explains it."""

from functools import cache
from types import MappingProxyType
from typing import Any, Literal

FORMAT = "pagewatch recording"
VERSION = 1

JOURNAL = "recording.jsonl"
JOURNAL_START = f'{{"format": "{FORMAT}"'.encode()
"""How every journal begins, whatever its version."""
Stream = Literal["processes", "mappings", "epochs", "notes"]
STREAMS: tuple[Stream, ...] = ("processes", "mappings", "epochs", "notes")
FILES: MappingProxyType[Stream, str] = MappingProxyType({name: f"{name}.arrows" for name in STREAMS})
"""``.arrows`` is the registered suffix of an Arrow IPC stream."""

END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""How an Arrow IPC stream says that nothing follows."""

# A reader allocates no more than these, whatever a file claims; a writer never exceeds them.
MAX_LINE_BYTES = 8 << 20
"""One line of the journal. The header is the long one: a command line can have 6 MiB."""
MAX_CHUNK_BYTES = 1 << 30
"""What one commit adds to one stream: at 20 bytes a region, 50 million regions. All of a stream kept in memory."""
MAX_ROWS = 1_000_000
"""Rows, or blind spots, of one commit; and of all of a stream that a reader keeps in memory: all but the epochs."""
MAX_TIME_NS = (1 << 63) - 1
MAX_PAGE_BYTES = 1 << 30
MAX_ADDRESS = 1 << 57
"""Where written memory ends at the latest. Where writes can be tracked, user space reaches up to 2**56 (five levels of
page tables on x86-64 and riscv) or 2**52 (arm64); the kernel's own mappings may lie higher."""


@cache
def schema(stream: Stream) -> Any:
    """The Arrow schema of a stream."""
    import pyarrow as pa  # noqa: PLC0415 - costs 0.1 s that only recordings need

    def required(name: str, kind: Any) -> Any:
        return pa.field(name, kind, nullable=False)

    region = pa.struct(
        [required("start", pa.uint64()), required("end", pa.uint64()), required("categories", pa.uint32())]
    )
    blind_spot = pa.struct(
        [
            required("start", pa.uint64()),
            required("end", pa.uint64()),
            required("reason", pa.string()),
            required("detail", pa.string()),
        ]
    )
    fields: dict[Stream, list[Any]] = {
        "processes": [
            required("at_ns", pa.int64()),
            required("pid", pa.int32()),
            required("event", pa.string()),
            pa.field("parent_pid", pa.int32()),
            pa.field("exit_status", pa.int32()),
            required("text", pa.string()),
        ],
        "mappings": [
            required("at_ns", pa.int64()),
            required("id", pa.uint32()),
            required("event", pa.string()),
            pa.field("pid", pa.int32()),
            pa.field("start", pa.uint64()),
            pa.field("end", pa.uint64()),
            pa.field("permissions", pa.string()),
            pa.field("offset", pa.uint64()),
            pa.field("device", pa.string()),
            pa.field("inode", pa.uint64()),
            pa.field("name", pa.string()),
            pa.field("page_size", pa.uint64()),
            pa.field("flags", pa.string()),
        ],
        "epochs": [
            required("pid", pa.int32()),
            required("index", pa.uint32()),
            required("started_ns", pa.int64()),
            required("ended_ns", pa.int64()),
            required("regions", pa.list_(pa.field("item", region, nullable=False))),
            required("assumed", pa.list_(pa.field("item", region, nullable=False))),
            pa.field("blind_spots", pa.list_(pa.field("item", blind_spot, nullable=False))),
        ],
        "notes": [required("at_ns", pa.int64()), required("text", pa.string())],
    }
    return pa.schema(fields[stream])
