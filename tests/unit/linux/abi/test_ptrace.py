"""ptrace in numbers, copied by hand from the kernel's headers."""

import ctypes

import pytest

from pagewatch.linux.abi import ptrace


def test_requests():
    assert {request.name: int(request) for request in ptrace.PtraceRequest} == {
        "PTRACE_PEEKDATA": 2,
        "PTRACE_CONT": 7,
        "PTRACE_DETACH": 17,
        "PTRACE_SYSCALL": 24,
        "PTRACE_SETOPTIONS": 0x4200,
        "PTRACE_GETREGSET": 0x4204,
        "PTRACE_SETREGSET": 0x4205,
        "PTRACE_SEIZE": 0x4206,
        "PTRACE_INTERRUPT": 0x4207,
        "PTRACE_GETSIGMASK": 0x420A,
        "PTRACE_SETSIGMASK": 0x420B,
        "PTRACE_GET_RSEQ_CONFIGURATION": 0x420F,
        "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG": 0x4211,
    }


def test_options():
    assert {option.name: int(option) for option in ptrace.PtraceOption} == {
        "PTRACE_O_TRACESYSGOOD": 0x1,
        "PTRACE_O_TRACEEXEC": 0x10,
        "PTRACE_O_SUSPEND_SECCOMP": 0x200000,
    }


@pytest.mark.parametrize(
    ("structure", "n_bytes"),
    [
        (ptrace.user_regs_struct, 216),
        (ptrace.user_pt_regs, 272),
        (ptrace.ptrace_rseq_configuration, 24),
        (ptrace.ptrace_sud_config, 32),
        (ptrace.rseq_cs, 32),
        (ptrace.user_sve_header, 16),
        (ptrace.iovec, 16),
    ],
)
def test_structure_sizes(structure, n_bytes):
    assert ctypes.sizeof(structure) == n_bytes


def test_where_the_registers_lie():
    x86 = ptrace.user_regs_struct
    assert {name: getattr(x86, name).offset for name in ("ax", "orig_ax", "ip", "sp", "gs")} == {
        "ax": 80,
        "orig_ax": 120,
        "ip": 128,
        "sp": 152,
        "gs": 208,
    }
    assert {name: getattr(ptrace.user_pt_regs, name).offset for name in ("sp", "pc", "pstate")} == {
        "sp": 248,
        "pc": 256,
        "pstate": 264,
    }


def test_restart_codes_are_those_of_errno_h():
    codes = (ptrace.ERESTARTSYS, ptrace.ERESTARTNOINTR, ptrace.ERESTARTNOHAND, ptrace.ERESTART_RESTARTBLOCK)
    assert codes == (512, 513, 514, 516)
