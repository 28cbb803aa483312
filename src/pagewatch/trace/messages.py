"""Arrow IPC messages out of bytes that nobody vouches for.

Arrow checks that a message is well formed; what it does not check is done here: that it is of the schema
this format has, not compressed (a few bytes could unpack to gigabytes), and sound in every offset.
"""

import struct
from collections.abc import Iterator
from typing import Any

from pagewatch.trace.format import Stream, schema

_MESSAGE_HEADER = 2
_RECORD_BATCH_COMPRESSION = 3


def read_messages(stream: Stream, data: bytes, *, at_start: bool) -> Iterator[Any]:
    """The record batches in what one commit appended to a stream.

    :param at_start: whether the data begins the stream, with its schema.
    :raises ValueError: the data is not what a recorder writes.
    """
    import pyarrow as pa  # noqa: PLC0415 - see format.schema

    kinds = schema(stream)
    source = pa.BufferReader(data)
    try:
        if at_start and not pa.ipc.read_schema(source).equals(kinds):
            raise ValueError("the stream has another schema than this format has")
        while source.tell() < len(data):
            message = _next_message(source)
            if message is None:
                break
            if message.type != "record batch":
                raise ValueError(f"a message of type {message.type!r}")
            if _is_compressed(message.metadata.to_pybytes()):
                raise ValueError("the data is compressed, which this format does not allow")
            batch = pa.ipc.read_record_batch(message, kinds)
            batch.validate(full=True)
            for column in batch.schema.names:
                _refuse_nulls(batch.column(column), kinds.field(column))
            yield batch
    except (pa.ArrowException, OSError, struct.error) as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
    if source.tell() < len(data):
        raise ValueError("something follows the end of the stream")


def _next_message(source: Any) -> Any:
    """The next message, or None at the end-of-stream mark."""
    import pyarrow as pa  # noqa: PLC0415 - see format.schema

    try:
        return pa.ipc.read_message(source)
    except EOFError:
        return None


def _refuse_nulls(array: Any, field: Any) -> None:
    import pyarrow as pa  # noqa: PLC0415 - see format.schema

    if not field.nullable and array.null_count:
        raise ValueError(f"{field.name} lacks a value")
    if pa.types.is_list(field.type):
        _refuse_nulls(array.values, field.type.value_field)
    elif pa.types.is_struct(field.type):
        for position, child in enumerate(field.type):
            _refuse_nulls(array.field(position), child)


def _is_compressed(metadata: bytes) -> bool:
    # pyarrow cannot be told to refuse compression, and unpacks as soon as a batch is read. So this looks
    # at the one field of the flatbuffer that says so (format/Message.fbs: Message.header is a RecordBatch).
    root = _unpack("<I", metadata, 0)
    header = _field(metadata, root, _MESSAGE_HEADER)
    if not header:
        raise ValueError("a message without a header")
    batch = header + _unpack("<I", metadata, header)
    return bool(_field(metadata, batch, _RECORD_BATCH_COMPRESSION))


def _field(metadata: bytes, table: int, number: int) -> int:
    """Where a flatbuffer table keeps a field; 0 where the field is absent."""
    vtable = table - _unpack("<i", metadata, table)
    slot = 4 + 2 * number
    if slot >= _unpack("<H", metadata, vtable):
        return 0
    offset = _unpack("<H", metadata, vtable + slot)
    return table + offset if offset else 0


def _unpack(kind: str, data: bytes, offset: int) -> int:
    (value,) = struct.unpack_from(kind, data, offset)
    return int(value)
