"""The operation itself: run two system calls in a stopped thread and put everything back.

The target's memory is never written. For some hundred microseconds the descriptor is in its table: a child that
another of its threads forks in that very moment keeps a copy, close-on-exec, until it execs or exits.
"""

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from pagewatch.linux.abi.ptrace import (
    PIDFD_THREAD,
    RSEQ_CS_OFFSET,
    UFFD_USER_MODE_ONLY,
    PtraceRequest,
    ptrace_rseq_configuration,
    rseq_cs,
)
from pagewatch.linux.remote.admission import Patient
from pagewatch.linux.remote.callsite import find_call_site
from pagewatch.linux.remote.inject import architecture
from pagewatch.linux.remote.inject.base import Interrupted
from pagewatch.linux.remote.tracee import ThreadExited, Tracee
from pagewatch.linux.syscalls import syscall, syscall_number
from pagewatch.vocab.errors import CannotAttach, FeatureMissing, NotPermitted, PagewatchError

# Asynchronous write-protection resolves writes of the kernel, too, so nothing is lost by asking for user mode only,
# and that needs no right in the target.
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | UFFD_USER_MODE_ONLY
_ALL_SIGNALS = (1 << 64) - 1
_REENTRY_NS = 100_000_000
_WORD_BYTES = 8


def take_userfaultfd(patient: Patient, site: int | None, deadline_ns: int) -> int:
    """A userfaultfd of a trapped thread's address space; the thread is left stopped, just as it was.

    :param site: where a system call instruction was seen before the stop, if anywhere.
    :param deadline_ns: by when the thread must have run the first call (monotonic).
    :returns: a descriptor that the caller closes.
    :raises CannotAttach: the thread does not run, or the target has no room for a descriptor.
    :raises FeatureMissing: the kernel has no userfaultfd.
    :raises NotPermitted: the target may not make one.
    :raises ThreadExited: it was killed meanwhile.
    """
    site = _confirmed(patient, site)
    arch, thread = architecture(), patient.thread
    with _borrowed(patient, deadline_ns) as idle:
        create = arch.calling(idle, site, syscall_number("userfaultfd"), _FLAGS)
        number = _call(thread, create, deadline_ns)
        patient.watch.mark("call")
        if number < 0:
            raise _refusal(patient.pid, -number)
        descriptor = _fetched(patient, number)
        patient.watch.mark("fetch")
        if descriptor is not None:
            thread.set_registers(arch.calling(idle, site, syscall_number("close"), number))
            # To its entry only: it runs on the way to the stop in which everything is put back.
            thread.run_to_syscall(None)
            patient.watch.mark("close")
    patient.watch.mark("restore")
    if descriptor is None:
        raise CannotAttach(patient.pid, "one of its threads closed or replaced the new descriptor", "try again")
    return descriptor


def _confirmed(patient: Patient, site: int | None) -> int:
    """A system call instruction in the memory as it is now: an exec may have come before the stop."""
    wanted = architecture().instruction
    if site is not None:
        try:
            if patient.thread.peek(site)[: len(wanted)] == wanted:
                return site
        except OSError:
            pass
    try:
        site = find_call_site(patient.pid, patient.thread.tid, architecture())
    except (FileNotFoundError, ProcessLookupError):
        raise ThreadExited from None
    if site is None:
        patient.thread.detach()
        raise CannotAttach(patient.pid, "no system call instruction was found in its memory")
    return site


@contextmanager
def _borrowed(patient: Patient, deadline_ns: int) -> Iterator[bytes]:
    """A trapped thread, its signals held back, to run calls on the registers given; restored and stopped after."""
    thread, arch = patient.thread, architecture()
    state = Interrupted(thread.registers())
    abort = _rseq_abort(thread, arch.instruction_pointer(state.registers))
    mask = thread.signal_mask()
    thread.set_signal_mask(_ALL_SIGNALS)
    try:
        state = arch.settle(thread, deadline_ns)
        if abort is not None:
            state = replace(state, registers=arch.moved(state.registers, abort))
        yield state.registers
    except TimeoutError:
        raise CannotAttach(patient.pid, "its stopped thread does not run", "it may be frozen; try later") from None
    finally:
        _restore(patient, state, mask)


def _restore(patient: Patient, state: Interrupted, mask: int) -> None:
    """Stop the thread once more, wherever it is, and set it to go on where it was; has no deadline."""
    thread = patient.thread
    stop = thread.trap(None)
    for kind, data in state.extra:
        thread.set_regset(kind, data)
    # In a stopped process the call must not run before the process does.
    if state.reentry is not None and stop is not None and not stop.is_group_stop:
        thread.set_registers(state.reentry)
        if thread.run_to_syscall(time.monotonic_ns() + _REENTRY_NS) is not None:
            thread.set_signal_mask(mask)
            patient.is_entering_call = True
            return
        thread.trap(None)
    thread.set_registers(state.registers)
    thread.set_signal_mask(mask)


def _rseq_abort(thread: Tracee, pointer: int) -> int | None:
    """Where a restartable sequence that the thread was interrupted in must go on; None outside of any.

    Seeing the thread elsewhere, the kernel takes the sequence for finished and forgets it. So the thread is sent where
    any preemption would have sent it.
    """
    area = ptrace_rseq_configuration()
    known = thread.configuration(PtraceRequest.PTRACE_GET_RSEQ_CONFIGURATION, area)
    if not known or not area.rseq_abi_pointer:
        return None
    at = int.from_bytes(thread.peek(area.rseq_abi_pointer + RSEQ_CS_OFFSET), "little")
    if not at:
        return None
    words = range(at, at + rseq_cs.abort_ip.offset + _WORD_BYTES, _WORD_BYTES)
    section = rseq_cs.from_buffer_copy(b"".join(map(thread.peek, words)))
    is_inside = 0 <= pointer - section.start_ip < section.post_commit_offset
    return int(section.abort_ip) if is_inside else None


def _call(thread: Tracee, registers: bytes, deadline_ns: int | None) -> int:
    """Run the one system call that the registers make; its result, negative errno for errors.

    :raises TimeoutError: it was not begun in time; once begun, it is waited for.
    """
    thread.set_registers(registers)
    if thread.run_to_syscall(deadline_ns) is None:
        raise TimeoutError
    thread.run_to_syscall(None)
    return architecture().result(thread.registers())


def _fetched(patient: Patient, number: int) -> int | None:
    """Our own descriptor for the target's; None if that is not the userfaultfd (any more).

    Threads need not share descriptors, and those of a leader that exited are gone, hence a pidfd of the thread.
    """
    pidfd = patient.pidfd
    if patient.thread.tid != patient.pid:
        try:
            pidfd = os.pidfd_open(patient.thread.tid, PIDFD_THREAD)
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: before Linux 6.9
                raise
    try:
        descriptor = syscall("pidfd_getfd", pidfd, number, 0)
    except ProcessLookupError:
        raise ThreadExited from None
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None
    finally:
        if pidfd != patient.pidfd:
            os.close(pidfd)
    # pathlib takes three times as long when it is first used, and the target waits.
    if os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:[userfaultfd]":  # noqa: PTH115
        return descriptor
    os.close(descriptor)
    return None


def _refusal(pid: int, number: int) -> PagewatchError:
    """What the target's own userfaultfd(2) said, in words."""
    match number:
        case errno.ENOSYS:
            return FeatureMissing("userfaultfd", "this kernel has none", "it needs CONFIG_USERFAULTFD=y")
        case errno.EPERM | errno.EACCES:
            return NotPermitted(
                f"process {pid} may not create a userfaultfd ({os.strerror(number)})",
                "a security module forbids it, or Linux is older than 5.11",
            )
        case errno.EMFILE:
            return CannotAttach(
                pid, "it has no free file descriptor", f"raise its limit: prlimit --pid {pid} --nofile=..."
            )
    return CannotAttach(pid, f"userfaultfd failed in it: {os.strerror(number)}")
