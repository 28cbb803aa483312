"""The engine: simulated threads as greenlets, switched at every announced access.

Each thread runs plain code until it announces an access (:mod:`pagewatch.steps`); then the engine
decides who goes on. An execution is a pure function of the program and the schedule, so a schedule is
all that is needed to see it again.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import greenlet

from pagewatch.steps import Kind, Ready, scheduled

Thread = Callable[[], object]
Build = Callable[[], Sequence[Thread]]
"""Makes a fresh program: its shared state and its threads. Called again for every execution."""


class Step(NamedTuple):
    """One performed access."""

    thread: int
    key: Hashable
    kind: Kind
    label: str


class Choice(NamedTuple):
    """A point where the engine chose: who could run, and who did."""

    runnable: tuple[int, ...]
    chosen: int


@dataclass(slots=True)
class Execution:
    """What happened under one schedule."""

    steps: list[Step] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    errors: dict[int, Exception] = field(default_factory=dict)
    """Threads that ended with an exception, and which."""
    deadlocked: tuple[Step, ...] = ()
    """If nothing could run before all threads had ended: what each of the rest waits for."""
    abandoned: bool = False
    """The chooser ended it before the threads had."""

    @property
    def schedule(self) -> tuple[int, ...]:
        """The thread of each step; replaying it gives this execution again."""
        return tuple(step.thread for step in self.steps)

    @property
    def order(self) -> tuple[str, ...]:
        """The labels in the order they happened."""
        return tuple(step.label for step in self.steps)


class Pending(Protocol):
    """The access that a waiting thread has announced."""

    key: Hashable
    kind: Kind
    label: str
    ready: Ready | None
    """Given if it may have to wait."""


Chooser = Callable[[tuple[int, ...], Sequence[Pending]], int]
"""Picks one of the runnable threads, given what every thread is about to do; called once for every step."""


class Abandoned(Exception):
    """Raised by a chooser that has seen enough: the execution ends here."""


class ScheduleMismatch(RuntimeError):
    """A schedule that does not fit the program: it names a thread that cannot run at that point."""


class _Worker:
    """One simulated thread: its greenlet and the access it has announced."""

    __slots__ = ("body", "dying", "error", "key", "kind", "label", "ready", "switch", "task")

    def __init__(self, body: Thread, engine: greenlet.greenlet) -> None:
        self.key: Hashable = None
        self.kind = Kind.READ
        self.label = ""
        self.ready: Ready | None = None
        self.dying = False
        self.error: Exception | None = None
        self.task = greenlet.greenlet(self._run, engine)
        self.switch = self.task.switch
        self.body = body

    def _run(self) -> None:
        try:
            self.body()
        except greenlet.GreenletExit:
            pass
        except Exception as error:  # reported in Execution.errors, whatever it is
            if not self.dying:
                self.error = error

    def unwind(self) -> None:
        """End an unfinished thread; its ``finally`` blocks run unscheduled, after all that counts."""
        self.dying = True
        self.task.throw(greenlet.GreenletExit)


class _Hook:
    """The engine's side of :class:`pagewatch.steps.Hook`."""

    __slots__ = ("current", "engine", "workers")

    def __init__(self, engine: greenlet.greenlet) -> None:
        self.engine = engine
        self.workers: list[_Worker] = []
        self.current = 0

    def access(self, key: Hashable, kind: Kind, label: str, ready: Ready | None) -> None:
        worker = self.workers[self.current]
        if worker.dying:  # GreenletExit runs finally blocks; they are no part of the execution
            return
        worker.key = key
        worker.kind = kind
        worker.label = label
        worker.ready = ready
        self.engine.switch()

    def thread(self) -> int:
        return self.current


def run(threads: Sequence[Thread], choose: Chooser) -> Execution:
    """Run threads to their ends (or to a deadlock), asking ``choose`` before every step.

    :returns: the execution; an exception in a thread ends that thread and is recorded, not raised.
    """
    engine = greenlet.getcurrent()
    hook = _Hook(engine)
    hook.workers = workers = [_Worker(body, engine) for body in threads]
    execution = Execution()
    with scheduled(hook):
        try:
            for index, worker in enumerate(workers):
                hook.current = index
                worker.switch()
            _interleave(hook, execution, choose)
        except Abandoned:
            execution.abandoned = True
        finally:
            for index, worker in enumerate(workers):
                if not worker.task.dead:
                    hook.current = index
                    worker.unwind()
    execution.errors = {i: worker.error for i, worker in enumerate(workers) if worker.error is not None}
    return execution


def _interleave(hook: _Hook, execution: Execution, choose: Chooser) -> None:
    workers = hook.workers
    alive = [i for i, worker in enumerate(workers) if not worker.task.dead]
    while alive:
        runnable = tuple([i for i in alive if (ready := workers[i].ready) is None or ready()])
        if not runnable:
            execution.deadlocked = tuple(Step(i, workers[i].key, workers[i].kind, workers[i].label) for i in alive)
            return
        chosen = choose(runnable, workers)
        worker = workers[chosen]
        execution.choices.append(Choice(runnable, chosen))
        execution.steps.append(Step(chosen, worker.key, worker.kind, worker.label))
        worker.ready = None
        hook.current = chosen
        worker.switch()
        if worker.task.dead:
            alive.remove(chosen)


def replay(build: Build, schedule: Sequence[int]) -> Execution:
    """Run a fresh program under a scripted schedule; once it is used up, the lowest runnable thread goes on.

    :raises ScheduleMismatch: the schedule names a thread that has ended or is blocked.
    """
    script = iter(schedule)

    def choose(runnable: tuple[int, ...], _: Sequence[Pending]) -> int:
        chosen = next(script, runnable[0])
        if chosen not in runnable:
            raise ScheduleMismatch(f"thread {chosen} cannot run here; these can: {runnable}")
        return chosen

    return run(build(), choose)


def enumerate_all(build: Build) -> Iterator[Execution]:
    """Every interleaving of a tiny program, by depth-first re-execution, in lexicographic order.

    No reduction: the number of executions grows exponentially with the number of steps.
    """
    prefix: list[int] | None = []
    while prefix is not None:
        execution = replay(build, prefix)
        yield execution
        prefix = _next_prefix(execution.choices)


def _next_prefix(choices: list[Choice]) -> list[int] | None:
    """The next schedule in lexicographic order, or None after the last."""
    for depth in range(len(choices) - 1, -1, -1):
        runnable, chosen = choices[depth]
        later = [i for i in runnable if i > chosen]
        if later:
            return [choice.chosen for choice in choices[:depth]] + [later[0]]
    return None
