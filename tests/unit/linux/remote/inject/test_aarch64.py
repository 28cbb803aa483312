"""The same for arm64."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.linux.remote.inject import aarch64

# struct user_pt_regs: x0 to x30, sp, pc, pstate.
N_REGISTERS, PC, PSTATE = 34, 32, 33
MASK = (1 << 64) - 1
SVC = b"\x01\x00\x00\xd4"
NT_ARM_SYSTEM_CALL, NT_ARM_SVE, NT_ARM_SSVE = 0x404, 0x405, 0x40B
words = st.lists(st.integers(0, MASK), min_size=N_REGISTERS, max_size=N_REGISTERS)


def packed(values: list[int]) -> bytes:
    return struct.pack(f"<{N_REGISTERS}Q", *values)


def unpacked(registers: bytes) -> list[int]:
    return list(struct.unpack(f"<{N_REGISTERS}Q", registers))


class FakeThread:
    """A thread trapped at some instruction; entering a call moves pc on and shows the call's true number in x8."""

    def __init__(self, at: bytes, *, true_number: int = 63, vectors: dict[int, bytes] | None = None) -> None:
        self.values = list(range(100, 100 + N_REGISTERS))
        self.values[8] = 101
        self.at, self.true_number, self.vectors = at, true_number, vectors or {}
        self.log: list[object] = []

    def registers(self) -> bytes:
        return packed(self.values)

    def peek(self, address: int) -> bytes:
        assert address == self.values[PC]
        return self.at + bytes(4)

    def run_to_syscall(self, deadline_ns: int | None) -> object:
        self.log.append(("run", deadline_ns))
        if len(self.log) == 1:
            self.values[PC] += 4
            self.values[8] = self.true_number
            self.values[7] = 0
        return self.log

    def set_regset(self, kind: int, data: bytes) -> None:
        self.log.append((kind, data))

    def regset(self, kind: int, n_bytes: int) -> bytes:
        if kind not in self.vectors:
            raise OSError
        return self.vectors[kind][:n_bytes]


def test_size_is_the_kernels() -> None:
    assert aarch64.registers_bytes == 272


@given(words)
def test_call_changes_what_it_must_and_nothing_else(values: list[int]) -> None:
    after = unpacked(aarch64.calling(packed(values), 0xFFFF_1234, 282, 0x80801))
    assert (after[PC], after[8], after[0]) == (0xFFFF_1234, 282, 0x80801)
    assert after[PSTATE] == values[PSTATE] & ~0xC00
    changed = {PC, 8, 0, PSTATE}
    assert [(i, v) for i, v in enumerate(after) if i not in changed] == [
        (i, v) for i, v in enumerate(values) if i not in changed
    ]


@given(words)
def test_moving_changes_only_the_pointer(values: list[int]) -> None:
    after = unpacked(aarch64.moved(packed(values), 0x58))
    values[PC] = 0x58
    assert after == values
    assert aarch64.instruction_pointer(packed(values)) == 0x58


@pytest.mark.parametrize("result", [0, 9, -24])
def test_result_is_signed(result: int) -> None:
    assert aarch64.result(packed([result & MASK] + [0] * 33)) == result


@pytest.mark.parametrize("true_number", [63, 128])
def test_interrupted_call_is_entered_skipped_and_kept(true_number: int) -> None:
    thread = FakeThread(SVC, true_number=true_number)
    before = list(thread.values)
    state = aarch64.settle(thread, 77)
    # In, with the deadline; its number made -1 so that nothing runs; out, however long it takes.
    assert thread.log == [("run", 77), (NT_ARM_SYSTEM_CALL, b"\xff\xff\xff\xff"), ("run", None)]
    before[8] = true_number
    assert state.reentry == state.registers == packed(before)


def test_thread_that_never_runs_is_given_up_unchanged() -> None:
    thread = FakeThread(SVC)
    thread.run_to_syscall = lambda _: None  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        aarch64.settle(thread, 77)
    assert thread.log == []


def sve(kind_flag: int, payload: bytes) -> bytes:
    """Struct user_sve_header and its payload."""
    return struct.pack("<IIHHHH", 16 + len(payload), 8192, 32, 64, kind_flag, 0) + payload


@pytest.mark.parametrize(
    ("vectors", "kept"),
    [
        ({}, ()),
        ({NT_ARM_SVE: sve(0, b"fpsimd")}, ()),
        ({NT_ARM_SVE: sve(1, b"scalable")}, (NT_ARM_SVE,)),
        ({NT_ARM_SVE: sve(0, b"idle"), NT_ARM_SSVE: sve(1, b"streaming")}, (NT_ARM_SSVE,)),
    ],
    ids=["none", "fpsimd", "sve", "streaming"],
)
def test_scalable_vectors_in_use_are_kept(vectors: dict[int, bytes], kept: tuple[int, ...]) -> None:
    thread = FakeThread(b"\x1f\x20\x03\xd5", vectors=vectors)
    state = aarch64.settle(thread, 77)
    assert state.extra == tuple((kind, vectors[kind]) for kind in kept)
    assert state.registers == thread.registers()
    assert state.reentry is None
    assert thread.log == []
