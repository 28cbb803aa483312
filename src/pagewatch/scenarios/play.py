"""Playing a scenario: under its own schedule, or under every one there is."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pagewatch.explore.bounded import enumerate_bounded
from pagewatch.explore.engine import Build, Execution, Pending, run
from pagewatch.explore.traces import enumerate_traces
from pagewatch.model.errors import KernelBug
from pagewatch.model.explain import Story
from pagewatch.scenarios.script import Script, Variant
from pagewatch.scenarios.session import Session
from pagewatch.scenarios.world import Broken
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
    """Every run: one for each way that the CPUs' steps can really differ, or with so many preemptions."""

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
    """Run a variant in every way there is, or that it asks for; at most ``limit`` of them."""
    sessions: list[Session] = []

    def build() -> list[Callable[[], None]]:
        sessions.append(_set_up(variant))
        return _threads(sessions[-1], variant, [])

    traces = broken = 0
    for execution in islice(_executions(variant, build), limit + 1):
        if traces == limit:
            return Explored(traces, broken, complete=False)
        traces += 1
        broken += bool(_verdict(sessions[-1], variant, execution, []))
    return Explored(traces, broken, complete=True)


def _executions(variant: Variant, build: Build) -> Iterator[Execution]:
    if variant.preemptions is None:
        return enumerate_traces(build)
    stops = variant.stops
    before = (lambda label: label.startswith(stops)) if stops else None
    return enumerate_bounded(build, variant.preemptions, before=before)


def _set_up(variant: Variant) -> Session:
    session = Session(arch=variant.arch, quirks=variant.quirks)
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
    lines = [parsed for line in schedule for parsed in _parse_line(line)]

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


_LINE = re.compile(r"cpu([01])(?: (?:(to) (.+?)(?: \* (\d+))?|(before) (.+)))?")


def _parse_line(line: str) -> list[tuple[int, str, str]]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise InvalidArgument(f"schedule: {line!r} is not 'cpuN', 'cpuN to LABEL [* TIMES]' or 'cpuN before LABEL'")
    cpu, to, reached, times, before, ahead = match.groups()
    return [(int(cpu), to or before or "", reached or ahead or "")] * int(times or 1)
