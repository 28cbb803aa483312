"""ptrace(2) and what goes with it: include/uapi/linux/ptrace.h, elf.h, rseq.h, asm/ptrace.h, signal.h."""

import ctypes
from enum import IntEnum, IntFlag

_u32 = ctypes.c_uint32
_u64 = ctypes.c_uint64


class PtraceRequest(IntEnum):
    """The requests in use."""

    PTRACE_PEEKDATA = 2
    PTRACE_CONT = 7
    PTRACE_SYSCALL = 24
    PTRACE_DETACH = 17
    PTRACE_SETOPTIONS = 0x4200
    PTRACE_GETREGSET = 0x4204
    PTRACE_SETREGSET = 0x4205
    PTRACE_SEIZE = 0x4206
    PTRACE_INTERRUPT = 0x4207
    PTRACE_GETSIGMASK = 0x420A
    PTRACE_SETSIGMASK = 0x420B
    PTRACE_GET_RSEQ_CONFIGURATION = 0x420F
    PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG = 0x4211


class PtraceOption(IntFlag):
    """Options of PTRACE_SEIZE and PTRACE_SETOPTIONS."""

    PTRACE_O_TRACESYSGOOD = 1 << 0
    PTRACE_O_TRACEEXEC = 1 << 4
    PTRACE_O_SUSPEND_SECCOMP = 1 << 21


PTRACE_EVENT_EXEC = 4
PTRACE_EVENT_STOP = 128
WALL = 0x40000000  # __WALL: wait for children of every kind, threads included

NT_PRSTATUS = 1
NT_ARM_SYSTEM_CALL = 0x404
NT_ARM_SVE = 0x405
NT_ARM_SSVE = 0x40B

ERESTARTSYS = 512
ERESTARTNOINTR = 513
ERESTARTNOHAND = 514
ERESTART_RESTARTBLOCK = 516

PF_KTHREAD = 0x00200000
PIDFD_THREAD = 0o200  # O_EXCL; since Linux 6.9
UFFD_USER_MODE_ONLY = 1
SUD_ON = 1  # PR_SYS_DISPATCH_ON
PR_SET_PTRACER = 0x59616D61
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
XATTR_NAME_CAPS = "security.capability"  # linux/xattr.h


class iovec(ctypes.Structure):
    """Of sys/uio.h."""

    _fields_ = [("iov_base", ctypes.c_void_p), ("iov_len", ctypes.c_size_t)]


class ptrace_rseq_configuration(ctypes.Structure):
    """Where a thread registered its restartable sequences (Linux 5.13)."""

    _fields_ = [
        ("rseq_abi_pointer", _u64),
        ("rseq_abi_size", _u32),
        ("signature", _u32),
        ("flags", _u32),
        ("pad", _u32),
    ]


RSEQ_CS_OFFSET = 8  # of rseq_cs, a pointer, in struct rseq


class rseq_cs(ctypes.Structure):
    """One restartable sequence: what the pointer in struct rseq points to."""

    _fields_ = [
        ("version", _u32),
        ("flags", _u32),
        ("start_ip", _u64),
        ("post_commit_offset", _u64),
        ("abort_ip", _u64),
    ]


class ptrace_sud_config(ctypes.Structure):
    """Syscall user dispatch of a thread (Linux 6.4)."""

    _fields_ = [("mode", _u64), ("selector", _u64), ("offset", _u64), ("len", _u64)]


class user_regs_struct(ctypes.Structure):
    """x86-64 general registers, in the order of NT_PRSTATUS (arch/x86/include/asm/user_64.h)."""

    _fields_ = [
        (name, _u64)
        for name in (
            *("r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di"),
            *("orig_ax", "ip", "cs", "flags", "sp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
        )
    ]


class user_pt_regs(ctypes.Structure):
    """arm64 general registers (arch/arm64/include/uapi/asm/ptrace.h)."""

    _fields_ = [("regs", _u64 * 31), ("sp", _u64), ("pc", _u64), ("pstate", _u64)]


class user_sve_header(ctypes.Structure):
    """What NT_ARM_SVE and NT_ARM_SSVE begin with."""

    _fields_ = [
        ("size", _u32),
        ("max_size", _u32),
        ("vl", ctypes.c_uint16),
        ("max_vl", ctypes.c_uint16),
        ("flags", ctypes.c_uint16),
        ("reserved", ctypes.c_uint16),
    ]


SVE_PT_REGS_SVE = 1  # in user_sve_header.flags: the payload is scalable vectors, not FPSIMD
