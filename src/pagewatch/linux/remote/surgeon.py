"""The surgeon's own process: serves one request over a socket, then exits.

It owns its session and ignores the signals that end a tracker, so that an operation once begun is always finished.
If nobody is left to take the answer, the descriptor is closed, and the target runs on as if nothing had happened.
"""

import contextlib
import gc
import os
import signal
import socket
import time
from pathlib import Path

from pagewatch.linux.abi.ptrace import PtraceRequest
from pagewatch.linux.remote.admission import Patient, stop_one_thread
from pagewatch.linux.remote.callsite import find_call_site
from pagewatch.linux.remote.inject import architecture
from pagewatch.linux.remote.procstat import live_threads
from pagewatch.linux.remote.protocol import (
    GO,
    MAX_BYTES,
    READY,
    Answer,
    Request,
    pack,
    pack_failure,
    receive,
    unpack_request,
)
from pagewatch.linux.remote.surgery import take_userfaultfd
from pagewatch.linux.remote.tracee import ThreadExited
from pagewatch.vocab.errors import CannotAttach, PagewatchError, TargetGone

_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
_MAX_DESCRIPTORS = 2
_PRIORITY = -20
_OOM_SCORE, _NEVER_CHOSEN = Path("/proc/self/oom_score_adj"), "-1000"


def main(descriptor: int) -> None:
    """Serve the request that comes over this socket; returns when the target has been let go."""
    for ignored in _IGNORED:
        signal.signal(ignored, signal.SIG_IGN)
    # Stops are announced by SIGCHLD, which is waited for, not handled; ignored it would not be sent at all.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
    gc.disable()
    # A target is stopped while this process waits for a processor.
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    # It is small, does not last, and a target does not survive that it is killed half-way.
    with contextlib.suppress(OSError):
        _OOM_SCORE.write_text(_NEVER_CHOSEN)
    with socket.socket(fileno=descriptor) as tracker:
        _tell(tracker, READY, [])
        data, descriptors = receive(tracker, _MAX_DESCRIPTORS)
        if not data:
            return
        request = unpack_request(data)
        try:
            patient, answer, uffd = _operate(request, descriptors)
        except PagewatchError as error:
            _tell(tracker, pack_failure(error), [])
            return
        try:
            _tell(tracker, pack(answer), [uffd])
        finally:
            os.close(uffd)
        if request.at_exec:
            _wait_for_release(tracker)
            _let_go(patient)


def _operate(request: Request, descriptors: list[int]) -> tuple[Patient, Answer, int]:
    """The operation; an attached thread runs on afterwards, a launched one is stopped."""
    try:
        if request.at_exec:
            pidfd, gate = descriptors
            return _operate_at_exec(request, pidfd, gate)
        return _operate_running(request, *descriptors)
    except ThreadExited:
        raise TargetGone(request.pid) from None


def _operate_running(request: Request, pidfd: int) -> tuple[Patient, Answer, int]:
    site = _call_site_seen(request.pid)
    patient = stop_one_thread(request.pid, pidfd, request.timeout_ns)
    patient.check_stopped()
    uffd = take_userfaultfd(patient, site, time.monotonic_ns() + request.timeout_ns)
    _let_go(patient)
    patient.watch.mark("release")
    return patient, Answer(patient.thread.tid, patient.watch.phases_ns), uffd


def _operate_at_exec(request: Request, pidfd: int, gate: int) -> tuple[Patient, Answer, int]:
    patient = Patient(request.pid, request.pid, pidfd, at_exec=True)
    deadline_ns = time.monotonic_ns() + request.timeout_ns
    os.write(gate, GO)
    os.close(gate)
    thread = patient.thread
    while (stop := thread.wait(deadline_ns)) is not None and not stop.is_exec:
        thread.resume(PtraceRequest.PTRACE_CONT, stop.undelivered)
    # The stop inside execve is not on the way to user mode yet: a second one is, at the first instruction.
    if stop is None or not patient.stop(deadline_ns):
        raise CannotAttach(request.pid, f"the program was not loaded within {request.timeout_ns / 1e9:g} s")
    patient.check_stopped()
    uffd = take_userfaultfd(patient, None, deadline_ns)
    return patient, Answer(thread.tid, patient.watch.phases_ns), uffd


def _call_site_seen(pid: int) -> int | None:
    """Looked up before the stop, to keep that short; nothing depends on it."""
    try:
        tid = next(tid for tid, _ in live_threads(pid))
        return find_call_site(pid, tid, architecture())
    except (StopIteration, OSError):
        return None


def _let_go(patient: Patient) -> None:
    try:
        patient.release()
    except ThreadExited:
        # Killed while it was stopped; its parent learns of that as soon as this process has exited.
        return


def _wait_for_release(tracker: socket.socket) -> None:
    """Until the tracker says so or is no more."""
    try:
        tracker.recv(MAX_BYTES)
    except OSError:
        return


def _tell(tracker: socket.socket, message: bytes, descriptors: list[int]) -> None:
    try:
        socket.send_fds(tracker, [message], descriptors)
    except OSError:
        # The tracker is gone: there is nobody to tell.
        return
