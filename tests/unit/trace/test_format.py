"""The documented format is the one in use."""

import re
from pathlib import Path

import pytest

from pagewatch.trace import format as trace_format
from pagewatch.trace.format import FILES, JOURNAL, STREAMS, Stream, schema

DOCUMENT = (Path(__file__).parents[3] / "docs" / "format.md").read_text()


def section_of(stream: Stream) -> str:
    return re.split(r"^##", DOCUMENT.partition(f"### `{stream}`\n")[2], flags=re.MULTILINE)[0]


def test_every_file_is_documented() -> None:
    for name in (JOURNAL, *FILES.values()):
        assert f"| `{name}` |" in DOCUMENT


@pytest.mark.parametrize("stream", STREAMS)
def test_every_column_is_documented_with_its_type_and_nothing_else_is(stream: Stream) -> None:
    documented = {}
    for names, kind in re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", section_of(stream), re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            documented[name] = kind
    fields = schema(stream)
    assert list(documented) == fields.names
    for field in fields:
        kind = documented[field.name]
        assert kind.endswith(" ?") == field.nullable
        plain = kind.removesuffix(" ?").replace("`", "")
        if plain == "the same":
            assert field.type == fields.field("regions").type
        elif plain.startswith("list of struct"):
            parts = ", ".join(f"{part.name} {part.type}" for part in field.type.value_type)
            assert plain == f"list of struct<{parts}>"
        else:
            assert plain == str(field.type)


@pytest.mark.parametrize("name", ["MAX_LINE_BYTES", "MAX_CHUNK_BYTES", "MAX_LOG_ROWS"])
def test_every_limit_is_documented(name: str) -> None:
    assert re.search(rf"\b{getattr(trace_format, name)}\b", DOCUMENT)


def test_the_documented_version_is_the_one_written() -> None:
    assert f"version {trace_format.VERSION}\n" in DOCUMENT.splitlines(keepends=True)[0]
