"""One thread under ptrace(2): requests, stops, and waiting with a deadline.

Facts this rests on (kernel/signal.c, kernel/ptrace.c):

* A thread that was PTRACE_SEIZEd and interrupted stops in ``get_signal``, on its way to user mode, before any
  signal is taken off the queue. Whatever stop comes first uses the interruption up, so it is asked for again
  after every other stop.
* Single-stepping is never used: the kernel reports a step by ``force_sig(SIGTRAP)``, which resets the handler of
  a program that blocks or ignores SIGTRAP. Stops at system calls are made by ptrace alone.
* A thread stopped by SIGSTOP runs on when it is resumed, and falls back into its stop when it is let go.
* When the tracer exits, the kernel lets all its tracees go.
"""

import ctypes
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from pagewatch.linux.abi.ptrace import (
    NT_PRSTATUS,
    PTRACE_EVENT_EXEC,
    PTRACE_EVENT_STOP,
    WALL,
    PtraceOption,
    PtraceRequest,
    iovec,
)
from pagewatch.linux.syscalls import syscall

_SYSCALL_STOP = signal.SIGTRAP | 0x80
_NO_SIGNAL_WAIT_NS = 20_000_000
_SIGSET_BYTES = 8
_REGSET_BYTES = 1024
_CURRENT_CALL_WORDS = 9


class ThreadExited(Exception):
    """The thread is no more (killed, or swept away by another thread's exec); there is nothing to put back."""


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of a tracee, as waitpid reports it."""

    signal: int
    event: int

    @property
    def is_trap(self) -> bool:
        """Stopped because that was asked for, or because the process is stopped by a signal."""
        return self.event == PTRACE_EVENT_STOP

    @property
    def is_group_stop(self) -> bool:
        """The process as a whole is stopped by SIGSTOP or a relative of it."""
        return self.is_trap and self.signal != signal.SIGTRAP

    @property
    def is_syscall(self) -> bool:
        """At the entry or the exit of a system call."""
        return self.event == 0 and self.signal == _SYSCALL_STOP

    @property
    def is_exec(self) -> bool:
        """A new program was loaded and has not run yet."""
        return self.event == PTRACE_EVENT_EXEC

    @property
    def undelivered(self) -> int:
        """The signal on whose way to the thread this stop lies; 0 at all other stops."""
        return self.signal if self.event == 0 and not self.is_syscall else 0


class Tracee:
    """A thread that this process traces; it must be let go by :meth:`detach` or by exiting.

    Methods raise :class:`ThreadExited` once the thread is gone, and OSError for what else the kernel refuses.
    Deadlines are times of ``time.monotonic_ns``, None for never. SIGCHLD must be blocked in the calling thread.
    """

    def __init__(self, tid: int, options: PtraceOption) -> None:
        """Seize a thread; it runs on.

        :raises PermissionError: not permitted, or traced already, or an option is not permitted.
        """
        self.tid = tid
        self.is_stopped = False
        self._ptrace(PtraceRequest.PTRACE_SEIZE, data=options)
        self.seized_in = self.current_call()
        """:meth:`current_call` before anything was asked of the thread."""

    def set_options(self, options: PtraceOption) -> None:
        """Replace the options of a stopped thread.

        :raises OSError: one is not permitted or not known; all stay as they were.
        """
        self._ptrace(PtraceRequest.PTRACE_SETOPTIONS, data=options)

    def resume(self, how: PtraceRequest, signal_number: int = 0) -> None:
        """PTRACE_CONT, PTRACE_SYSCALL or PTRACE_DETACH, delivering a signal if one is given."""
        self._ptrace(how, data=signal_number)
        self.is_stopped = False

    def detach(self) -> None:
        """Let a stopped thread go; it continues where its registers say."""
        self.resume(PtraceRequest.PTRACE_DETACH)

    def wait(self, deadline_ns: int | None) -> Stop | None:
        """The thread's next stop; None if there is none by then."""
        while True:
            try:
                tid, status = os.waitpid(self.tid, os.WNOHANG | WALL)
            except ChildProcessError:
                raise ThreadExited(self.tid) from None
            if tid and not os.WIFSTOPPED(status):
                raise ThreadExited(self.tid)
            if tid:
                self.is_stopped = True
                return Stop(os.WSTOPSIG(status), status >> 16)
            # A leader replaced by another thread's exec vanishes without a signal: look again now and then.
            patience_ns = _NO_SIGNAL_WAIT_NS
            if deadline_ns is not None:
                patience_ns = min(patience_ns, deadline_ns - time.monotonic_ns())
                if patience_ns <= 0:
                    return None
            signal.sigtimedwait((signal.SIGCHLD,), patience_ns / 1e9)

    def trap(self, deadline_ns: int | None) -> Stop | None:
        """Bring the thread, stopped or not, to a fresh stop on its way to user mode; None if it does not come."""
        self._ptrace(PtraceRequest.PTRACE_INTERRUPT)
        if self.is_stopped:
            self.resume(PtraceRequest.PTRACE_CONT)
        while (stop := self.wait(deadline_ns)) is not None:
            if stop.is_trap:
                return stop
            self._ptrace(PtraceRequest.PTRACE_INTERRUPT)
            self.resume(PtraceRequest.PTRACE_CONT, stop.undelivered)
        return None

    def run_to_syscall(self, deadline_ns: int | None) -> Stop | None:
        """Go on to the next entry or exit of a system call; None if the thread does not get there."""
        self.resume(PtraceRequest.PTRACE_SYSCALL)
        while (stop := self.wait(deadline_ns)) is not None:
            if stop.is_syscall:
                return stop
            # Only SIGSTOP can come in between, as it cannot be blocked: the stop is entered and left again.
            self.resume(PtraceRequest.PTRACE_SYSCALL, stop.undelivered)
        return None

    def registers(self) -> bytes:
        """General registers; shorter than the machine's own if the thread runs 32-bit code."""
        return self.regset(NT_PRSTATUS)

    def set_registers(self, registers: bytes) -> None:
        """Write back what :meth:`registers` gave, changed or not."""
        self.set_regset(NT_PRSTATUS, registers)

    def regset(self, kind: int, n_bytes: int = _REGSET_BYTES) -> bytes:
        """A register set by its ELF note type, at most ``n_bytes`` of it.

        :raises OSError: the machine has no such set.
        """
        buffer = ctypes.create_string_buffer(n_bytes)
        vector = iovec(ctypes.addressof(buffer), n_bytes)
        self._ptrace(PtraceRequest.PTRACE_GETREGSET, kind, ctypes.addressof(vector))
        return buffer.raw[: vector.iov_len]

    def set_regset(self, kind: int, data: bytes) -> None:
        """Write a register set."""
        buffer = ctypes.create_string_buffer(data, len(data))
        vector = iovec(ctypes.addressof(buffer), len(data))
        self._ptrace(PtraceRequest.PTRACE_SETREGSET, kind, ctypes.addressof(vector))

    def current_call(self) -> tuple[int, ...]:
        """The system call that the thread sleeps or is stopped in, as /proc/PID/syscall has it; empty if none.

        Its number, six arguments, and the stack and instruction pointer.
        """
        try:
            words = Path(f"/proc/{self.tid}/syscall").read_text().split()
        except OSError:
            return ()
        return tuple(int(word, 0) for word in words) if len(words) == _CURRENT_CALL_WORDS else ()

    def signal_mask(self) -> int:
        """Blocked signals, bit N - 1 for signal N.

        Inside ppoll, sigsuspend and the like this is the mask they return to, not the temporary one.
        """
        mask = ctypes.c_uint64()
        self._ptrace(PtraceRequest.PTRACE_GETSIGMASK, _SIGSET_BYTES, ctypes.addressof(mask))
        return mask.value

    def set_signal_mask(self, mask: int) -> None:
        """Block exactly these signals; SIGKILL and SIGSTOP cannot be."""
        value = ctypes.c_uint64(mask)
        self._ptrace(PtraceRequest.PTRACE_SETSIGMASK, _SIGSET_BYTES, ctypes.addressof(value))

    def peek(self, address: int) -> bytes:
        """The eight bytes at an address.

        :raises OSError: they are not mapped.
        """
        word = ctypes.c_uint64()
        self._ptrace(PtraceRequest.PTRACE_PEEKDATA, address, ctypes.addressof(word))
        return bytes(word)

    def configuration(self, request: PtraceRequest, structure: ctypes.Structure) -> bool:
        """Fill a structure by a PTRACE_GET_..._CONFIG request; False if this kernel does not know the request."""
        try:
            self._ptrace(request, ctypes.sizeof(structure), ctypes.addressof(structure))
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EINVAL):
                raise
            return False
        return True

    def _ptrace(self, request: PtraceRequest, address: int = 0, data: int = 0) -> None:
        try:
            syscall("ptrace", request, self.tid, address, data)
        except ProcessLookupError:
            raise ThreadExited(self.tid) from None
        except OSError as error:
            raise OSError(error.errno, f"{request.name}: {os.strerror(error.errno or 0)}") from None
