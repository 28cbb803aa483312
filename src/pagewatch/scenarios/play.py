"""Playing a scenario: under its own schedule, or under every one there is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from pagewatch.explore.engine import Execution, Pending, run
from pagewatch.explore.traces import enumerate_traces
from pagewatch.model.errors import KernelBug
from pagewatch.model.explain import Story
from pagewatch.scenarios.script import Script, Variant
from pagewatch.scenarios.session import Broken, Session
from pagewatch.steps import observed
from pagewatch.vocab.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Played:
    """One run."""

    broken: str
    """What does not hold, or ""."""
    said: tuple[str, ...]
    """Statements, each with what it said."""
    story: Story
    """What happened to the watched pages while the CPUs ran."""


@dataclass(frozen=True, slots=True)
class Explored:
    """Every run, one for each way that the CPUs' steps can really differ."""

    traces: int
    broken: int
    complete: bool
    """False where there were more than the limit."""


def play(script: Script, variant: Variant) -> Played:
    """Run a variant under its schedule; what the schedule leaves open runs in order of CPUs.

    :raises InvalidArgument: a statement or a line of the schedule cannot be understood.
    """
    session = _set_up(variant)
    said: list[str] = []
    pages = session.pages(script.watch)
    story = Story(session.process.mm, pages.start, pages.end)
    with observed(story):
        execution = run(_threads(session, variant, said), _scripted(variant.schedule))
    story.end()
    return Played(_verdict(session, variant, execution, said), tuple(said), story)


def explore(variant: Variant, *, limit: int) -> Explored:
    """Run a variant in every way there is, at most ``limit`` of them."""
    sessions: list[Session] = []

    def build() -> list[Callable[[], None]]:
        sessions.append(_set_up(variant))
        return _threads(sessions[-1], variant, [])

    traces = broken = 0
    for execution in islice(enumerate_traces(build), limit + 1):
        if traces == limit:
            return Explored(traces, broken, complete=False)
        traces += 1
        broken += bool(_verdict(sessions[-1], variant, execution, []))
    return Explored(traces, broken, complete=True)


def _set_up(variant: Variant) -> Session:
    session = Session(quirks=variant.quirks)
    for line in variant.setup:
        session.run(line)
    return session


def _threads(session: Session, variant: Variant, said: list[str]) -> list[Callable[[], None]]:
    def body(cpu: int, lines: Sequence[str]) -> Callable[[], None]:
        def run_lines() -> None:
            for line in lines:
                said.append(_said(f"cpu{cpu}", line, session.run(line, cpu=cpu)))

        return run_lines

    return [body(cpu, lines) for cpu, lines in enumerate(variant.cpus)]


def _verdict(session: Session, variant: Variant, execution: Execution, said: list[str]) -> str:
    for error in execution.errors.values():
        if isinstance(error, InvalidArgument):
            raise error
        return str(error)
    if execution.deadlocked:
        return "deadlock: " + ", ".join(f"cpu{step.thread} waits for {step.label}" for step in execution.deadlocked)
    try:
        for line in variant.final:
            said.append(_said("then", line, session.run(line)))
    except (Broken, KernelBug) as error:
        said.append(_said("then", line, str(error)))
        return str(error)
    return ""


def _said(who: str, line: str, answer: str) -> str:
    return f"{who}  {line}" + (f"  ->  {answer}" if answer else "")


def _scripted(schedule: Sequence[str]) -> Callable[[tuple[int, ...], Sequence[Pending]], int]:
    """A chooser that follows the lines of a schedule."""
    lines = [_parse_line(line) for line in schedule]

    def choose(runnable: tuple[int, ...], pending: Sequence[Pending]) -> int:
        while lines:
            cpu, until, label = lines[0]
            if cpu not in runnable:
                lines.pop(0)
                continue
            reached = bool(until) and pending[cpu].label == label
            if reached:
                lines.pop(0)
            if not (reached and until == "before"):
                return cpu
        return runnable[0]

    return choose


def _parse_line(line: str) -> tuple[int, str, str]:
    cpu, _, rest = line.partition(" ")
    until, _, label = rest.partition(" ")
    if cpu not in ("cpu0", "cpu1") or until not in ("", "to", "before") or bool(until) != bool(label):
        raise InvalidArgument(f"schedule: {line!r} is not 'cpuN', 'cpuN to LABEL' or 'cpuN before LABEL'")
    return int(cpu[3:]), until, label
