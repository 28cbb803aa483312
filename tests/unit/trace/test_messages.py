"""Arrow messages that nobody vouches for."""

import resource
import struct
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.trace.columns import TO_BATCH
from pagewatch.trace.format import END_OF_STREAM, STREAMS, Stream, schema
from pagewatch.trace.messages import read_messages
from pagewatch.trace.rows import Note

NOTES = [Note(1, "one"), Note(2, "two" * 50)]


def stream_of(batch: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def read(data: bytes, stream: Stream = "notes") -> list[Any]:
    return list(read_messages(stream, data, at_start=True))


def test_what_arrow_itself_writes_is_read() -> None:
    batch = TO_BATCH["notes"](NOTES)
    assert [b.to_pylist() for b in read(stream_of(batch))] == [batch.to_pylist()]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_data_is_refused_before_it_is_unpacked(codec: str) -> None:
    bomb = TO_BATCH["notes"]([Note(0, "x" * (64 << 20))])
    data = stream_of(bomb, compression=codec)
    assert len(data) < 1 << 20
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="compressed"):
        read(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 32 << 10


@pytest.mark.parametrize("stream", STREAMS)
def test_every_stream_refuses_every_other_schema(stream: Stream) -> None:
    for other in STREAMS:
        if other != stream:
            with pytest.raises(ValueError, match="another schema"):
                read(schema(other).serialize().to_pybytes(), stream)


def test_a_dictionary_message_is_refused() -> None:
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    data = stream_of(pa.record_batch([words], names=["text"]))
    after_schema = data[len(pa.schema([("text", words.type)]).serialize()) :]
    with pytest.raises(ValueError, match="dictionary"):
        read(schema("notes").serialize().to_pybytes() + after_schema)


def test_bytes_after_the_end_of_the_stream_are_refused() -> None:
    data = schema("notes").serialize().to_pybytes() + END_OF_STREAM + b"more"
    with pytest.raises(ValueError, match="end of the stream"):
        read(data)


def test_text_that_is_not_unicode_is_refused() -> None:
    texts = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<2i", 0, 2)), pa.py_buffer(b"\xff\xfe")]
    )
    batch = pa.RecordBatch.from_arrays([pa.array([1], pa.int64()), texts], schema=schema("notes"))
    with pytest.raises(ValueError, match="UTF8"):
        read(stream_of(batch))


@pytest.mark.parametrize("offsets", [(0, 1 << 30), (5, 1), (-1, 2)])
def test_offsets_that_point_elsewhere_are_refused(offsets: tuple[int, int]) -> None:
    # Arrow's own writer would trip over such offsets, so they are put into a sound message.
    sound = stream_of(TO_BATCH["notes"]([Note(1, "x" * 77)]))
    good, bad = struct.pack("<2i", 0, 77), struct.pack("<2i", *offsets)
    before, _, after = sound.rpartition(good)
    with pytest.raises(ValueError, match=r"[Oo]ffset"):
        read(before + bad + after)


def test_a_missing_value_is_refused() -> None:
    loose = pa.schema([("at_ns", pa.int64()), ("text", pa.string())])
    batch = pa.record_batch([pa.array([None], pa.int64()), pa.array(["x"])], schema=loose)
    after_schema = stream_of(batch)[len(loose.serialize()) :]
    with pytest.raises(ValueError, match="at_ns lacks a value"):
        read(schema("notes").serialize().to_pybytes() + after_schema)


@given(data=st.binary(max_size=200))
@pytest.mark.parametrize("at_start", [True, False])
def test_noise_raises_nothing_but_value_error(data: bytes, *, at_start: bool) -> None:
    with suppress(ValueError):
        list(read_messages("notes", data, at_start=at_start))


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_raises_nothing_but_value_error(position: int, value: int) -> None:
    data = bytearray(stream_of(TO_BATCH["notes"](NOTES)))
    data[position % len(data)] = value
    with suppress(ValueError):
        for batch in read(bytes(data)):
            batch.to_pylist()
