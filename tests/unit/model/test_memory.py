"""Frames and their contents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.model import UseAfterFree
from pagewatch.model.memory import Memory, load_bytes, store_bytes


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=20)), max_size=10))
def test_bytes_read_back_as_they_were_written(writes: list[tuple[int, bytes]]) -> None:
    folio, shadow = Memory(4096).alloc(), bytearray(128)
    for offset, data in writes:
        store_bytes(folio, 0, offset, data, "test")
        shadow[offset : offset + len(data)] = data
    assert load_bytes(folio, 0, 0, 128, "test") == shadow
    assert load_bytes(folio, 0, 3, 77, "test") == shadow[3:80]


def test_a_copied_page_is_equal_and_apart() -> None:
    memory = Memory(4096)
    source, target = memory.alloc(), memory.alloc()
    store_bytes(source, 0, 4088, b"lastword", "test")
    memory.copy_page(target, 0, source, 0, "test")
    store_bytes(source, 0, 0, b"later", "test")
    assert load_bytes(target, 0, 0, 5, "test") == bytes(5)
    assert load_bytes(target, 0, 4088, 8, "test") == b"lastword"


def test_the_last_reference_frees_and_the_frame_never_comes_back() -> None:
    memory = Memory(4096)
    folio = memory.alloc()
    memory.get(folio, "test")
    memory.put(folio, "test")
    assert memory.folio(folio.pfn) is folio
    memory.put(folio, "test")
    assert memory.try_get(folio.pfn, "test") is None
    with pytest.raises(UseAfterFree):
        memory.folio(folio.pfn)
    with pytest.raises(UseAfterFree):
        memory.put(folio, "test")
    assert memory.alloc().pfn != folio.pfn


def test_every_frame_of_a_large_folio_is_found() -> None:
    memory = Memory(4096)
    memory.alloc()
    large = memory.alloc(order=9)
    assert large.pfn % 512 == 0
    assert memory.folio(large.pfn + 511) is large
    assert memory.find(large.pfn + 512) is None
