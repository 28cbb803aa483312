"""Choosing a thread of a process, stopping it, and refusing where nothing can safely be run in it."""

import errno
import time
from pathlib import Path

from pagewatch.linux.abi.ptrace import SUD_ON, PtraceOption, PtraceRequest, ptrace_sud_config
from pagewatch.linux.proc import hint_for_user, ptrace_hint
from pagewatch.linux.remote.identity import has_exited
from pagewatch.linux.remote.inject import architecture
from pagewatch.linux.remote.procstat import ProcStat, live_threads, read_stat, read_status
from pagewatch.linux.remote.rights import may_suspend_seccomp
from pagewatch.linux.remote.stopwatch import Stopwatch
from pagewatch.linux.remote.tracee import ThreadExited, Tracee
from pagewatch.vocab.errors import CannotAttach, NotPermitted, TargetGone

_LEAST_PATIENCE_NS = 1_000_000
_TRIES = 20
_PAUSE_S = 0.001
_BITS_32 = "it runs 32-bit code", "only 64-bit programs can be attached to"
_ELF_32_BIT = b"\x7fELF\x01"


class Patient:
    """A seized thread and what is known of it; the kernel lets it go when this process exits."""

    def __init__(self, pid: int, tid: int, pidfd: int, *, at_exec: bool = False) -> None:
        """Seize one thread; it runs on.

        :param at_exec: also stop it when it loads another program.
        :raises ThreadExited: it is no more.
        :raises CannotAttach: it is traced already.
        :raises NotPermitted: the kernel refuses ptrace access.
        :raises TargetGone: the process that the pidfd stands for has exited.
        """
        self.pid = pid
        self.pidfd = pidfd
        self.watch = Stopwatch()
        """Runs since the thread was asked to stop."""
        self.is_entering_call = False
        """Stopped at the entry of a system call rather than on the way to user mode."""
        self.is_seccomp_suspended = False
        self._options = PtraceOption.PTRACE_O_TRACESYSGOOD
        if at_exec:
            self._options |= PtraceOption.PTRACE_O_TRACEEXEC
        self.thread = _seize(pid, tid, self._options)
        # Alive now, so it was alive when its number was seized: nobody else can have had that number.
        if has_exited(pidfd):
            raise TargetGone(pid)

    def stop(self, deadline_ns: int) -> bool:
        """Bring the thread to a stop on its way to user mode; False if it does not come in time."""
        self.watch = Stopwatch()
        is_stopped = self.thread.trap(deadline_ns) is not None
        if is_stopped:
            # Not before: a thread that runs must not do so unfiltered.
            self.is_seccomp_suspended = self._suspend_seccomp()
        self.watch.mark("stop")
        return is_stopped

    def check_running(self) -> None:
        """Refuse, before the thread is disturbed, what can be known by then.

        :raises CannotAttach: a 32-bit program, or a seccomp filter.
        """
        filtered = None if may_suspend_seccomp() else self._filter()
        obstacle = _BITS_32 if self._loaded_32_bit() else filtered
        if obstacle is not None:
            raise CannotAttach(self.pid, *obstacle)

    def check_stopped(self) -> None:
        """Whether the stopped thread can be made to run a system call; if not, it is let go as it was.

        :raises CannotAttach: 32-bit code, a seccomp filter, or syscall user dispatch.
        """
        obstacle = self._obstacle()
        self.watch.mark("check")
        if obstacle is not None:
            self.thread.detach()
            raise CannotAttach(self.pid, *obstacle)

    def release(self) -> None:
        """Let the stopped thread run on.

        A thread at the entry of a system call is resumed, and let go for good by the exit of this process:
        PTRACE_DETACH pretends that there was a signal (``ptrace_signal_wake_up``), and then calls such as
        epoll_wait would return EINTR.
        """
        self.thread.resume(PtraceRequest.PTRACE_CONT if self.is_entering_call else PtraceRequest.PTRACE_DETACH)

    def _loaded_32_bit(self) -> bool:
        try:
            with Path(f"/proc/{self.pid}/exe").open("rb") as program:
                return program.read(len(_ELF_32_BIT)) == _ELF_32_BIT
        except OSError:
            return False

    def _suspend_seccomp(self) -> bool:
        try:
            self.thread.set_options(self._options | PtraceOption.PTRACE_O_SUSPEND_SECCOMP)
        except OSError as error:
            # EPERM: no CAP_SYS_ADMIN, or this process is filtered itself; EINVAL: no CONFIG_CHECKPOINT_RESTORE.
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            return False
        return True

    def _filter(self) -> tuple[str, str] | None:
        # A forbidden call may kill the process, so what a filter would say is never found out by trying.
        if self.is_seccomp_suspended or read_status(self.pid, self.thread.tid).get("Seccomp", "0") == "0":
            return None
        return (
            "it runs under a seccomp filter",
            "suspending the filter needs the capability SYS_ADMIN and a tracer without one: "
            + hint_for_user(
                "run as root, outside of the container or sandbox", root="run outside of the container or sandbox"
            ),
        )

    def _obstacle(self) -> tuple[str, str] | None:
        if len(self.thread.registers()) != architecture().registers_bytes:
            return _BITS_32
        filtered = self._filter()
        if filtered is not None:
            return filtered
        dispatch = ptrace_sud_config()
        known = self.thread.configuration(PtraceRequest.PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, dispatch)
        if known and dispatch.mode >= SUD_ON:
            return "it handles its system calls itself (syscall user dispatch)", ""
        return None


def stop_one_thread(pid: int, pidfd: int, timeout_ns: int) -> Patient:
    """Stop the leader if it can be stopped, else another thread.

    Threads that sleep uninterruptibly are tried last and each for its share of the time. Those that did not stop
    stay seized, running, until this process exits.

    :raises CannotAttach: no thread stopped in time; or what :class:`Patient` refuses.
    :raises TargetGone: the process exited meanwhile.
    """
    deadline_ns = time.monotonic_ns() + timeout_ns
    deaf: dict[int, Patient] = {}
    while True:
        candidates = [thread for thread in live_threads(pid) if thread[0] not in deaf]
        if not candidates and not deaf:
            raise TargetGone(pid)
        candidates.sort(key=lambda thread: thread[1].state == "D")
        for behind, (tid, _) in enumerate(candidates):
            try:
                patient = Patient(pid, tid, pidfd)
                patient.check_running()
                left_ns = deadline_ns - time.monotonic_ns()
                share_ns = max(left_ns // (len(candidates) - behind), _LEAST_PATIENCE_NS)
                if patient.stop(time.monotonic_ns() + share_ns):
                    return patient
                deaf[tid] = patient
            except ThreadExited:
                continue
        if deaf or time.monotonic_ns() > deadline_ns:
            raise _nobody_stopped(pid, live_threads(pid), timeout_ns)


def _seize(pid: int, tid: int, options: PtraceOption) -> Tracee:
    for _ in range(_TRIES):
        try:
            return Tracee(tid, options)
        except PermissionError:
            refusal = _why_not(pid, tid)
        if not isinstance(refusal, NotPermitted):
            break
        # A thread that was just exiting is refused the same way, and its number may have passed on by exec.
        time.sleep(_PAUSE_S)
    raise refusal


def _why_not(pid: int, tid: int) -> Exception:
    stat = read_stat(pid, tid)
    if stat is None or stat.has_exited:
        return ThreadExited(tid)
    tracer = int(read_status(pid, tid).get("TracerPid", "0"))
    if tracer:
        by = read_stat(tracer)
        name = f" ({by.command})" if by is not None else ""
        return CannotAttach(pid, f"it is traced by process {tracer}{name}", "end the debugger or tracer first")
    return NotPermitted(f"process {pid} may not be traced", ptrace_hint())


def _nobody_stopped(pid: int, threads: list[tuple[int, ProcStat]], timeout_ns: int) -> Exception:
    if not threads:
        return TargetGone(pid)
    sleeping = sum(stat.state == "D" for _, stat in threads)
    return CannotAttach(
        pid,
        f"none of its threads stopped within {timeout_ns / 1e9:g} s "
        f"({sleeping} of {len(threads)} in uninterruptible sleep)",
        "it waits for a device, for a child made by vfork, or is frozen; try again later",
    )
