"""What a stopped x86-64 thread was doing, and the registers that make it do something else; layouts as literals."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.linux.remote.inject import x86_64

# Indices in struct user_regs_struct, from arch/x86/include/asm/user_64.h.
R9, R8, AX, CX, DX, SI, DI, ORIG_AX, IP, FLAGS, SP = 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19
N_REGISTERS = 27
MINUS_1 = (1 << 64) - 1
words = st.lists(st.integers(0, MINUS_1), min_size=N_REGISTERS, max_size=N_REGISTERS)


def packed(values: list[int]) -> bytes:
    return struct.pack(f"<{N_REGISTERS}Q", *values)


def unpacked(registers: bytes) -> list[int]:
    return list(struct.unpack(f"<{N_REGISTERS}Q", registers))


class FakeThread:
    """A thread stopped behind some instruction."""

    def __init__(self, registers: bytes, before: bytes = b"\x0f\x05") -> None:
        self._registers, self._before = registers, before

    def registers(self) -> bytes:
        return self._registers

    def peek(self, address: int) -> bytes:
        assert address == unpacked(self._registers)[IP] - 2
        return self._before + bytes(6)


def stopped(number: int, result: int, before: bytes = b"\x0f\x05") -> FakeThread:
    values = list(range(100, 100 + N_REGISTERS))
    values[ORIG_AX], values[AX], values[IP] = number & MINUS_1, result & MINUS_1, 0x7000_0002
    return FakeThread(packed(values), before)


def test_size_is_the_kernels() -> None:
    assert x86_64.registers_bytes == 27 * 8


@given(words)
def test_call_changes_what_it_must_and_nothing_else(values: list[int]) -> None:
    after = unpacked(x86_64.calling(packed(values), 0x7FFD_1234, 323, 0x80801))
    assert (after[IP], after[AX], after[DI], after[ORIG_AX]) == (0x7FFD_1234, 323, 0x80801, MINUS_1)
    assert after[FLAGS] == values[FLAGS] & ~0x100
    changed = {IP, AX, DI, ORIG_AX, FLAGS}
    assert [(i, v) for i, v in enumerate(after) if i not in changed] == [
        (i, v) for i, v in enumerate(values) if i not in changed
    ]


@given(words)
def test_moving_changes_only_the_pointer(values: list[int]) -> None:
    after = unpacked(x86_64.moved(packed(values), 0x55))
    values[IP] = 0x55
    assert after == values
    assert x86_64.instruction_pointer(packed(values)) == 0x55


@pytest.mark.parametrize("result", [0, 9, -24, -1, -(1 << 63)])
def test_result_is_signed(result: int) -> None:
    values = [0] * N_REGISTERS
    values[AX] = result & MINUS_1
    assert x86_64.result(packed(values)) == result


# ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND restart the call itself, ERESTART_RESTARTBLOCK restart_syscall (219).
@pytest.mark.parametrize(
    ("number", "result", "again"),
    [
        *((0, -512, 0), (61, -513, 61), (34, -514, 34), (35, -516, 219), (7, -516, 219)),
        *((232, -4, 232), (0, -4, 0), (426, -4, 426)),
    ],
)
def test_interrupted_call_is_entered_again(number: int, result: int, again: int) -> None:
    thread = stopped(number, result)
    state = x86_64.settle(thread, None)
    assert state.registers == thread.registers()
    assert state.reentry is not None
    before, after = unpacked(thread.registers()), unpacked(state.reentry)
    assert (after[IP], after[AX], after[ORIG_AX]) == (0x7000_0000, again, MINUS_1)
    assert [after[i] for i in (DI, SI, DX, R8, R9, SP)] == [before[i] for i in (DI, SI, DX, R8, R9, SP)]


@pytest.mark.parametrize(
    ("number", "result"),
    [(-1, -512), (-1, 35), (0, 17), (0, 0), (1, -32), (35, -4), (42, -4), (3, -4), (0, -515), (0, -517)],
    ids=str,
)
def test_call_that_is_over_or_none_is_not_entered_again(number: int, result: int) -> None:
    assert x86_64.settle(stopped(number, result), None).reentry is None


def test_call_by_another_instruction_is_left_to_the_kernel() -> None:
    assert x86_64.settle(stopped(168, -516, before=b"\xcd\x80"), None).reentry is None
