"""Finding a system call instruction, in made-up memory and in this process's own."""

import ctypes
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.linux.remote.callsite import executable_ranges, find_call_site, search
from pagewatch.linux.remote.inject import ARCHITECTURES, architecture
from pagewatch.linux.remote.inject.base import Architecture

_MAPS = """\
400000-401000 r--p 00000000 fe:01 1  /usr/bin/program
401000-402000 r-xp 00001000 fe:01 1  /usr/bin/program
7f0000000000-7f0000001000 --xp 00000000 00:00 0
7f0000002000-7f0000003000 rwxp 00000000 00:00 0
7ffd00000000-7ffd00002000 r--p 00000000 00:00 0                          [vvar]
7ffd00002000-7ffd00004000 r-xp 00000000 00:00 0                          [vdso]
7ffd00004000-7ffd00005000 r-xp 00000000 fe:01 2  /tmp/not the [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""

every_architecture = pytest.mark.parametrize("arch", ARCHITECTURES.values(), ids=ARCHITECTURES)


def test_vdso_comes_first_and_what_cannot_be_read_never() -> None:
    assert list(executable_ranges(_MAPS)) == [
        (0x7FFD00002000, 0x7FFD00004000),
        (0x401000, 0x402000),
        (0x7F0000002000, 0x7F0000003000),
        (0x7FFD00004000, 0x7FFD00005000),
    ]


def naive(memory: bytes, base: int, arch: Architecture) -> int | None:
    hits = [at for at in range(len(memory)) if memory[at : at + len(arch.instruction)] == arch.instruction]
    return next((base + at for at in hits if (base + at) % arch.alignment == 0), None)


@every_architecture
@given(data=st.data())
def test_search_finds_the_first_aligned_instruction(arch: Architecture, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.sampled_from([b"\0", b"\x0f", arch.instruction, arch.instruction[:-1], b"\xd4"])))
    memory = bytes(0xFFF8) * data.draw(st.booleans()) + b"".join(pieces)
    base = data.draw(st.sampled_from([0x10000, 0x10001, 0x7FFD0000]))
    found = search(lambda at, n: memory[at - base : at - base + n], base, base + len(memory), arch)
    assert found == naive(memory, base, arch)


@every_architecture
def test_instruction_across_two_chunks_is_found(arch: Architecture) -> None:
    memory = bytes(0x10000 - arch.alignment) + arch.instruction
    found = search(lambda at, n: memory[at : at + n], 0, len(memory), arch)
    assert found == 0x10000 - arch.alignment


@every_architecture
def test_memory_that_cannot_be_read_holds_nothing(arch: Architecture) -> None:
    def read(at: int, n_bytes: int) -> bytes:
        raise OSError

    assert search(read, 0, 1 << 20, arch) is None


def test_own_memory_has_a_call_site() -> None:
    arch = architecture()
    at = find_call_site(os.getpid(), os.getpid(), arch)
    assert at is not None
    assert ctypes.string_at(at, len(arch.instruction)) == arch.instruction
    spans = [line.split()[:2] for line in Path("/proc/self/maps").read_text().splitlines()]
    holding = [rights for span, rights in spans if int(span.split("-")[0], 16) <= at < int(span.split("-")[1], 16)]
    assert [rights[2] for rights in holding] == ["x"]
