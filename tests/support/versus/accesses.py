"""Loads and stores of single words, each one machine instruction, that survive the signals they cause."""

import ctypes
import platform
import signal
from dataclasses import dataclass

from support.versus import calls
from support.versus.outcomes import PAGE, Result

_SA_SIGINFO, _SA_NODEFER = 0x4, 0x40000000


@dataclass(frozen=True)
class _Code:
    """Functions without a frame: their last instruction returns, wherever they were interrupted."""

    load: bytes
    store: bytes
    return_at: int
    """Offset of the return instruction in ``load``."""
    counter_at: int
    """Offset of the program counter in ``ucontext_t``."""


_CODES = {
    # mov rax, [rdi]; ret              mov [rdi], rsi; ret
    "x86_64": _Code(bytes.fromhex("488b07c3"), bytes.fromhex("488937c3"), 3, 168),
    # ldr x0, [x0]; ret                str x1, [x0]; ret
    "aarch64": _Code(bytes.fromhex("000040f9c0035fd6"), bytes.fromhex("010000f9c0035fd6"), 4, 440),
}


class _Sigaction(ctypes.Structure):
    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


class Accesses:
    """The two instructions, and the handler of their SIGSEGV and SIGBUS. One per process, inherited by fork."""

    def __init__(self) -> None:
        code = _CODES[platform.machine()]
        self._place = calls.mmap(0, PAGE, 3, 0x22, -1, 0)
        ctypes.memmove(self._place, code.load + code.store, len(code.load + code.store))
        # Executable only now: that makes the kernel bring instruction caches up to date.
        calls.mprotect(self._place, PAGE, 5)
        self._return = self._place + code.return_at
        self._counter_at = code.counter_at
        self._load = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(self._place)
        self._store = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_uint64)(self._place + len(code.load))
        self._caught: list[Result] = []
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(self._on_signal)
        action = _Sigaction(ctypes.cast(self._handler, ctypes.c_void_p).value, flags=_SA_SIGINFO | _SA_NODEFER)
        for number in (signal.SIGSEGV, signal.SIGBUS):
            calls.sigaction(number, ctypes.byref(action), None)

    def load(self, address: int) -> Result:
        """Read a word."""
        self._caught.clear()
        value = self._load(address)
        return self._caught[0] if self._caught else ("ok", value)

    def store(self, address: int, value: int) -> Result:
        """Write a word."""
        self._caught.clear()
        self._store(address, value)
        return self._caught[0] if self._caught else ("ok", 0)

    def _on_signal(self, number: int, info: int, context: int) -> None:
        counter = ctypes.c_uint64.from_address(context + self._counter_at)
        if not self._place <= counter.value < self._place + PAGE:
            signal.signal(number, signal.SIG_DFL)  # a bug of the driver: let it end
            return
        code = ctypes.c_int.from_address(info + 8).value
        self._caught.append(("signal", number, code, ctypes.c_uint64.from_address(info + 16).value))
        counter.value = self._return
