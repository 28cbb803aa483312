"""The same for arm64."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.linux.remote.inject import aarch64

# struct user_pt_regs: x0 to x30, sp, pc, pstate.
N_REGISTERS, SP, PC, PSTATE = 34, 31, 32, 33
MASK = (1 << 64) - 1
SVC = b"\x01\x00\x00\xd4"
NOP = b"\x1f\x20\x03\xd5"
EPOLL_PWAIT, NANOSLEEP = 22, 101
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
        self.seized_in: tuple[int, ...] = ()
        self.told = -1
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


class FakeSleeper(FakeThread):
    """A thread whose call returned EINTR; the kernel shows the call's arguments once it is told the number."""

    def __init__(self, *, number: int, first_argument: int, result: int = -4) -> None:
        super().__init__(NOP)
        self.values[8], self.values[0] = number, result & MASK
        self.first_argument = first_argument
        self.told = -1
        self.seized_in = self.call()

    def call(self) -> tuple[int, ...]:
        return (self.values[8], self.first_argument, *self.values[1:6], self.values[SP], self.values[PC])

    def set_regset(self, kind: int, data: bytes) -> None:
        assert kind == NT_ARM_SYSTEM_CALL
        (self.told,) = struct.unpack("<i", data)

    def current_call(self) -> tuple[int, ...]:
        return self.call() if self.told == self.values[8] else ()


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
    thread.run_to_syscall = lambda _: None
    with pytest.raises(TimeoutError):
        aarch64.settle(thread, 77)
    assert thread.log == []


def test_call_that_returned_eintr_is_entered_again_with_its_first_argument() -> None:
    thread = FakeSleeper(number=EPOLL_PWAIT, first_argument=7)
    state = aarch64.settle(thread, 77)
    again = list(thread.values)
    again[0], again[PC] = 7, again[PC] - 4
    assert state.reentry == packed(again)
    assert state.registers == packed(thread.values)
    assert thread.told == -1


def handled_a_signal(thread: FakeSleeper) -> None:
    """What the kernel remembers is the first argument of rt_sigreturn."""
    thread.first_argument = 99


def went_on_to_another_call(thread: FakeSleeper) -> None:
    thread.values[1] += 1


def was_running_when_seized(thread: FakeSleeper) -> None:
    thread.seized_in = ()


def slept_in_another_call(thread: FakeSleeper) -> None:
    thread.seized_in = (63, *thread.seized_in[1:])


@pytest.mark.parametrize(
    "meanwhile", [handled_a_signal, went_on_to_another_call, was_running_when_seized, slept_in_another_call]
)
def test_eintr_that_the_stop_did_not_cause_stays(meanwhile: Callable[[FakeSleeper], None]) -> None:
    thread = FakeSleeper(number=EPOLL_PWAIT, first_argument=7)
    meanwhile(thread)
    state = aarch64.settle(thread, 77)
    assert (state.reentry, state.registers) == (None, packed(thread.values))
    assert thread.told == -1


@pytest.mark.parametrize(("number", "result"), [(NANOSLEEP, -4), (EPOLL_PWAIT, 0), (EPOLL_PWAIT, -9)])
def test_other_calls_and_results_stay(number: int, result: int) -> None:
    assert aarch64.settle(FakeSleeper(number=number, first_argument=7, result=result), 77).reentry is None


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
    thread = FakeThread(NOP, vectors=vectors)
    state = aarch64.settle(thread, 77)
    assert state.extra == tuple((kind, vectors[kind]) for kind in kept)
    assert state.registers == thread.registers()
    assert state.reentry is None
    assert thread.log == []
