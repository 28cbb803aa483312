"""arm64.

At the first stop the kernel has already rewound an interrupted system call: pc stands on its svc, x0 has its first
argument again, and the system call is forgotten (``do_signal`` in arch/arm64/kernel/signal.c). Whether it goes on
as ``restart_syscall`` is decided only after the stop, by a pc that is still there. So a thread whose pc stands on an
svc is let into that call, where x8 shows its true number, and the call is skipped.

A system call discards scalable vector registers beyond their low 128 bits and leaves streaming mode, so those of a
thread interrupted in its own code are put back.
"""

import ctypes
import struct

from pagewatch.linux.abi.ptrace import (
    NT_ARM_SSVE,
    NT_ARM_SVE,
    NT_ARM_SYSTEM_CALL,
    SVE_PT_REGS_SVE,
    user_pt_regs,
    user_sve_header,
)
from pagewatch.linux.remote.inject.base import Interrupted
from pagewatch.linux.remote.tracee import Tracee

instruction = b"\x01\x00\x00\xd4"  # svc #0
alignment = 4
registers_bytes = ctypes.sizeof(user_pt_regs)

_BRANCH_TYPE = 3 << 10  # PSR_BTYPE: an svc is no landing pad for an indirect branch that was under way
_NO_SYSCALL = struct.pack("<i", -1)


def settle(thread: Tracee, deadline_ns: int | None) -> Interrupted:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    registers = thread.registers()
    if thread.peek(instruction_pointer(registers))[: len(instruction)] != instruction:
        return Interrupted(registers, extra=_vectors(thread))
    if thread.run_to_syscall(deadline_ns) is None:
        raise TimeoutError
    # At the entry pc is behind the svc, and x7 shows the kind of stop; the kernel puts x7 back by itself.
    regs = user_pt_regs.from_buffer_copy(thread.registers())
    regs.pc = instruction_pointer(registers)
    regs.regs[7] = user_pt_regs.from_buffer_copy(registers).regs[7]
    thread.set_regset(NT_ARM_SYSTEM_CALL, _NO_SYSCALL)
    thread.run_to_syscall(None)
    return Interrupted(bytes(regs), reentry=bytes(regs))


def _vectors(thread: Tracee) -> tuple[tuple[int, bytes], ...]:
    """The scalable vector registers in use, streaming or not; nothing where there are none."""
    for kind in (NT_ARM_SVE, NT_ARM_SSVE):
        try:
            header = user_sve_header.from_buffer_copy(thread.regset(kind, ctypes.sizeof(user_sve_header)))
        except OSError:
            continue
        if header.flags & SVE_PT_REGS_SVE:
            return ((kind, thread.regset(kind, header.size)),)
    return ()


def instruction_pointer(registers: bytes) -> int:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    return int(user_pt_regs.from_buffer_copy(registers).pc)


def moved(registers: bytes, address: int) -> bytes:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    regs = user_pt_regs.from_buffer_copy(registers)
    regs.pc = address
    return bytes(regs)


def calling(registers: bytes, address: int, number: int, argument: int) -> bytes:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    regs = user_pt_regs.from_buffer_copy(registers)
    regs.pc = address
    regs.regs[8] = number
    regs.regs[0] = argument
    regs.pstate &= ~_BRANCH_TYPE
    return bytes(regs)


def result(registers: bytes) -> int:
    """See :class:`~pagewatch.linux.remote.inject.base.Architecture`."""
    return ctypes.c_int64(user_pt_regs.from_buffer_copy(registers).regs[0]).value
