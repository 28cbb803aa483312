"""``pagewatch record``: a program or a running process into a recording."""

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from pagewatch.cli.interrupts import Interrupts
from pagewatch.cli.progress import progress_line, progress_text
from pagewatch.linux.adapters import MonotonicClock
from pagewatch.linux.remote.launch import Launched, launch
from pagewatch.open import METHODS
from pagewatch.record import Ending, Policy, Progress, Recorder
from pagewatch.sessions import LiveProcesses, LiveSession, command_line
from pagewatch.trace import Header, TraceWriter, check_output
from pagewatch.trace.format import VERSION
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.errors import PagewatchError
from pagewatch.vocab.wording import plural, printable


@click.command("record", context_settings={"allow_interspersed_args": False})
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Directory to make.  [default: pagewatch-NAME-PID]"
)
@click.option("--hz", type=float, default=10.0, show_default=True, help="How often to look, times a second.")
@click.option("--method", type=click.Choice(METHODS), default="auto", show_default=True, help="How to track writes.")
@click.option("--follow", is_flag=True, help="Record forked children, too.")
@click.option("--duration", type=float, metavar="SECONDS", help="End the recording after that long.")
@click.option("--force", is_flag=True, help="Overwrite an existing recording.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON when done.")
@click.option("-p", "--pid", type=click.IntRange(min=1), help="A running process to attach to.")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, metavar="[-- PROGRAM ARGUMENTS...]")
def command(
    *,
    output: Path | None,
    hz: float,
    method: str,
    follow: bool,
    duration: float | None,
    force: bool,
    as_json: bool,
    pid: int | None,
    program: tuple[str, ...],
) -> None:
    """Record which pages of a program are written, and when.

    Starts PROGRAM, or attaches to a running process with -p. Neither needs to be changed or stopped. Ends when
    the program does, or with Ctrl-C; what was recorded until then is kept. Progress is shown on a terminal,
    unless the program itself writes to it.

    PROGRAM's exit status is shown and recorded; that of this command says whether recording worked.
    """
    if (pid is None) == (not program):
        raise click.UsageError("give either -p PID or a program to start: pagewatch record -- PROGRAM ARGUMENTS")
    policy = Policy(hz=hz, duration_s=duration, follow=follow)
    _keep_memory_flat()
    with ExitStack() as resources:
        if output is None:
            _check_writable(Path.cwd())
        else:
            resources.enter_context(_claimed(output, force=force))
        interrupts = resources.enter_context(Interrupts())
        processes = resources.enter_context(LiveProcesses(method=method, wake_fd=interrupts.wake_fd))
        launched = resources.enter_context(_held(_launch(program, interrupts), interrupts)) if program else None
        if follow:
            _allow_many_descriptors()
        session = processes.adopt(launched) if launched else processes.open(pid or 0)
        resources.callback(session.close)
        path = output or _default_output(session)
        words = program or command_line(session.pid)
        origin_ns, header = time.monotonic_ns(), _header(words, session.method, hz)
        writer = resources.enter_context(TraceWriter(path, header))
        _say(f"recording process {session.pid} ({session.name}) into {path}; Ctrl-C ends it")
        with progress_line(shared=bool(program) and sys.stdout.isatty()) as progress:
            recorder = _recorder(writer, processes, policy, interrupts, origin_ns=origin_ns, on_progress=progress)
            recorder.add(session)
            if interrupts.count:
                raise KeyboardInterrupt
            if launched:
                interrupts.program = launched.process
                launched.release()
            result = _run(recorder, launched, interrupts)
        _conclude(path, result)
        status = _wait_for(launched.process, interrupts) if launched else None
    if as_json:
        click.echo(json.dumps(_summary(path, result, status)))


def _allow_many_descriptors() -> None:
    """Each process takes a few. Not before a program was started: it has the limit that it would have without us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _keep_memory_flat() -> None:
    import pyarrow as pa  # noqa: PLC0415 - only where something is recorded

    # Arrow's default pool keeps what small batches gave back: 10 MB more after 10,000 epochs.
    pa.set_memory_pool(pa.system_memory_pool())


def _recorder(
    writer: TraceWriter,
    processes: LiveProcesses,
    policy: Policy,
    interrupts: Interrupts,
    *,
    origin_ns: int,
    on_progress: Callable[[Progress], None],
) -> Recorder:
    """A recorder in real time that heeds signals."""
    clock = MonotonicClock()

    def wait(until_ns: int) -> None:
        deadline_ns = interrupts.deadline_ns
        processes.wait(until_ns if deadline_ns is None else min(until_ns, deadline_ns))
        deadline_ns = interrupts.deadline_ns
        if deadline_ns is not None and clock.now_ns() >= deadline_ns:
            recorder.stop(interrupts.reason)

    recorder = Recorder(writer, processes, policy, clock=clock, wait=wait, origin_ns=origin_ns, on_progress=on_progress)
    return recorder


def _run(recorder: Recorder, launched: Launched | None, interrupts: Interrupts) -> Progress:
    """Record; a program that was started is not walked away from when that fails."""
    try:
        return recorder.run()
    except PagewatchError as error:
        if launched:
            # The program may run for days yet.
            _say(f"the recording failed: {error}")
            _wait_for(launched.process, interrupts)
        raise


def _launch(program: Sequence[str], interrupts: Interrupts) -> Launched:
    try:
        return launch(program, close_fds=False)
    except PagewatchError:
        if interrupts.count:
            # Ctrl-C ends what is to load the program, too; that is nothing to wonder at.
            raise KeyboardInterrupt from None
        raise


@contextmanager
def _held(launched: Launched, interrupts: Interrupts) -> Iterator[Launched]:
    """Ends the program if something goes wrong before it was let run; afterwards it is left alone."""
    try:
        yield launched
    except BaseException:
        if interrupts.program is None:
            launched.process.kill()
            # Its tracer holds it back from its parent, dead or alive.
            launched.close()
            launched.process.wait()
        raise
    finally:
        launched.close()


@contextmanager
def _claimed(path: Path, *, force: bool) -> Iterator[None]:
    """See that a recording can be made there; a directory that was made for one that never began is removed."""
    existed = path.exists()
    check_output(path, force=force)
    try:
        yield
    finally:
        if not existed and not any(path.iterdir()):
            path.rmdir()


def _check_writable(directory: Path) -> None:
    """See that a recording can be made there, before anything is started."""
    probe = directory / f".pagewatch-{os.getpid()}"
    check_output(probe)
    probe.rmdir()


def _default_output(session: LiveSession) -> Path:
    """Make a directory that did not exist before."""
    name = re.sub(r"[^A-Za-z0-9_.+-]", "_", session.name)
    number = 1
    path = Path(f"pagewatch-{name}-{session.pid}")
    while path.exists():
        number += 1
        path = Path(f"pagewatch-{name}-{session.pid}-{number}")
    check_output(path)
    return path


def _header(words: Sequence[str], method: str, hz: float) -> Header:
    system = os.uname()
    return Header(
        version=VERSION,
        created_unix_s=time.time(),
        command=tuple(words),
        method=method,
        hz=hz,
        page_size=PAGE_SIZE,
        kernel=system.release,
        machine=system.machine,
    )


def _conclude(path: Path, result: Progress) -> None:
    _say(f"{result.ended_reason}; {progress_text(result)}")
    if result.n_notes:
        _say(f"notes in the report: {result.n_notes}")
    if not result.n_page_writes and result.n_epochs <= result.n_processes:
        # The one epoch of a process that ended is what nobody saw of it.
        _say("all was over before the first collect, so no write was seen; a higher --hz collects sooner")
    if result.n_late:
        late = plural(result.n_late, "collect")
        _say(f"{late} left out: those before, or attaching to a process, took too long; a lower --hz leaves more time")
    _say(f"next: pagewatch report {path}")


def _wait_for(program: subprocess.Popen[bytes], interrupts: Interrupts) -> int | None:
    """The exit status of the program that was started; None if it is left running."""
    status = program.poll()
    if status is None and not interrupts.passed_on and interrupts.count < 2:
        _say(f"process {program.pid} goes on, unrecorded; waiting for it (Ctrl-C leaves it running)")
        before = interrupts.count
        while (status := program.poll()) is None and interrupts.count == before:
            time.sleep(0.05)
        if status is not None:
            _say(f"process {program.pid} {Ending(status)}")
    if status is None:
        _say(f"process {program.pid} is left running")
    return status


def _summary(path: Path, result: Progress, status: int | None) -> dict[str, Any]:
    return {
        "recording": str(path),
        "ended": result.ended_reason,
        "exit_status": status,
        "seconds": result.elapsed_ns / 1e9,
        "processes": result.n_processes,
        "epochs": result.n_epochs,
        "late": result.n_late,
        "notes": result.n_notes,
        "page_writes": result.n_page_writes,
        "recording_bytes": result.n_bytes,
    }


def _say(text: str) -> None:
    """To stderr: stdout belongs to the program that is recorded."""
    click.echo(f"pagewatch: {printable(text)}", err=True)
