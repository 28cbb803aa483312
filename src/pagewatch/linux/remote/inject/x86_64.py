"""x86-64.

At the first stop the kernel has not yet rewound an interrupted system call: rax holds one of the kernel's own
restart codes (never seen by programs) and orig_rax the number (``arch_do_signal_or_restart``).
"""

import ctypes
import errno

from pagewatch.linux.abi.numbers import SYSCALLS
from pagewatch.linux.abi.ptrace import (
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    ERESTARTSYS,
    user_regs_struct,
)
from pagewatch.linux.remote.inject.base import Interrupted
from pagewatch.linux.remote.tracee import Tracee

instruction = b"\x0f\x05"  # syscall
alignment = 1
registers_bytes = ctypes.sizeof(user_regs_struct)

_TRAP_FLAG = 1 << 8
_NO_SYSCALL = (1 << 64) - 1
_RESTART_SYSCALL = SYSCALLS["x86_64"]["restart_syscall"]
_RESTARTED = (ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND)

# These return EINTR to the program when a stop interrupts them, signal or not (signal(7)), and EINTR from them
# says that nothing was done. So they are run again; a timeout among their arguments then counts anew.
_REPEATABLE = frozenset(
    SYSCALLS["x86_64"][name]
    for name in (
        *("read", "readv", "recvfrom", "recvmsg", "recvmmsg", "accept", "accept4"),
        *("write", "writev", "sendto", "sendmsg", "sendmmsg"),
        *("epoll_wait", "epoll_pwait", "epoll_pwait2", "io_getevents", "io_pgetevents", "io_uring_enter"),
        *("semop", "semtimedop", "rt_sigtimedwait"),
    )
)


def settle(thread: Tracee, deadline_ns: int | None) -> Interrupted:  # noqa: ARG001 - needs no waiting here
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    registers = thread.registers()
    regs = user_regs_struct.from_buffer_copy(registers)
    number = _call_to_repeat(regs)
    # Entered by int 0x80 or sysenter instead, the call is left to the kernel's own restart.
    if number is None or thread.peek(regs.ip - len(instruction))[: len(instruction)] != instruction:
        return Interrupted(registers)
    regs.ip -= len(instruction)
    regs.ax = number
    regs.orig_ax = _NO_SYSCALL
    return Interrupted(registers, reentry=bytes(regs))


def _call_to_repeat(regs: user_regs_struct) -> int | None:
    """The system call that goes on with what was interrupted; None if none was."""
    number = ctypes.c_int64(regs.orig_ax).value
    code = -ctypes.c_int64(regs.ax).value
    if number < 0:
        return None
    if code in _RESTARTED or (code == errno.EINTR and number in _REPEATABLE):
        return number
    return _RESTART_SYSCALL if code == ERESTART_RESTARTBLOCK else None


def instruction_pointer(registers: bytes) -> int:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    return int(user_regs_struct.from_buffer_copy(registers).ip)


def moved(registers: bytes, address: int) -> bytes:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    regs = user_regs_struct.from_buffer_copy(registers)
    regs.ip = address
    return bytes(regs)


def calling(registers: bytes, address: int, number: int, argument: int) -> bytes:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`.

    A program that single-steps itself would get a SIGTRAP for our call, by force: the trap flag is cleared.
    """
    regs = user_regs_struct.from_buffer_copy(registers)
    regs.ip = address
    regs.ax = number
    regs.orig_ax = _NO_SYSCALL
    regs.di = argument
    regs.flags &= ~_TRAP_FLAG
    return bytes(regs)


def result(registers: bytes) -> int:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    return ctypes.c_int64(user_regs_struct.from_buffer_copy(registers).ax).value
