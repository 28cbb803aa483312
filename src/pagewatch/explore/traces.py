"""One execution for each way a program can really differ: dynamic partial-order reduction.

Two adjacent steps of different threads that do not conflict may be swapped without any effect. Executions
that differ in such swaps only are one (Mazurkiewicz) trace, and one of them tells all. The search is
source-DPOR (Abdulla, Aronis, Jonsson, Sagonas: Optimal dynamic partial order reduction, POPL 2014):

* A choice point begins with one thread. Another is tried only where a later step races with the one taken
  there: where the other order of the two begins in the same place. It is tried unless a thread that could
  begin that order has been, or will be.
* Where a thread was tried it sleeps in the branches tried after it, until some step conflicts with its
  own: what it would do in between has been seen already (Godefroid's sleep sets). So each trace is
  executed once; executions in which all runnable threads sleep are cut, and not given out.
* A thread that waits in vain performs no step, but still races: with who took the lock before it. Without
  that, orders that end in a deadlock would be missed.

Why nothing is missed: every maximal trace that begins as the path to a choice point does has, by the
races, one of the tried or sleeping threads among those that can begin the rest of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pagewatch.explore.dependence import Access, conflict
from pagewatch.explore.engine import Abandoned, Build, Execution, Pending, run
from pagewatch.explore.history import History


@dataclass(slots=True)
class _Node:
    """A choice point on the current path: who could run, who sleeps, and what each would do."""

    runnable: tuple[int, ...]
    accesses: dict[int, Access]
    asleep: set[int]
    chosen: int
    wanted: list[int] = field(default_factory=list)
    """Who is to be tried, in this order; the first are, up to ``chosen``."""

    def want(self, initials: frozenset[int], preferred: int) -> None:
        """Have one of these tried here, unless one of them is already."""
        able = initials.intersection(self.runnable)
        if able and able.isdisjoint(self.wanted) and able.isdisjoint(self.asleep):
            self.wanted.append(preferred if preferred in able else min(able))

    def go_on(self) -> bool:
        """Choose the next thread to be tried; False after the last."""
        following = self.wanted.index(self.chosen) + 1
        if following == len(self.wanted):
            return False
        self.chosen = self.wanted[following]
        return True

    def asleep_below(self) -> set[int]:
        """Who sleeps after the chosen step: those it does not conflict with."""
        step = self.accesses[self.chosen]
        earlier = self.asleep.union(self.wanted[: self.wanted.index(self.chosen)])
        return {thread for thread in earlier if not conflict(step, self.accesses[thread])}


def enumerate_traces(build: Build) -> Iterator[Execution]:
    """One complete (or deadlocked) execution of each trace, depth first and deterministically.

    ``build`` must make the same program every time. The number of traces may still be large: it is up to
    the caller to stop.
    """
    search = _Search(build)
    while True:
        execution = search.execute()
        if not execution.abandoned:
            yield execution
        if not search.go_on():
            return


class _Search:
    """The choice points from the start to where the current execution is, and what happened there."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._path: list[_Node] = []
        self._history = History(0)

    def go_on(self) -> bool:
        """Go back to the last choice point with somebody left to try; False if there is none."""
        while self._path:
            if len(self._history) == len(self._path):
                self._history.pop()
            if self._path[-1].go_on():
                return True
            self._path.pop()
        return False

    def execute(self) -> Execution:
        """Replay the path, then go on with the first thread that does not sleep, extending it."""
        threads = self._build()
        if not self._path:
            self._history = History(len(threads))
        depth = 0

        def choose(runnable: tuple[int, ...], pending: Sequence[Pending]) -> int:
            nonlocal depth
            if depth == len(self._path):
                self._extend(runnable, pending)
            node = self._path[depth]
            if depth == len(self._history):
                self._perform(node.chosen, node.accesses[node.chosen])
            depth += 1
            return node.chosen

        execution = run(threads, choose)
        for step in execution.deadlocked:
            self._look_for_races(step.thread, Access(step.key, step.kind, waits=True))
        return execution

    def _extend(self, runnable: tuple[int, ...], pending: Sequence[Pending]) -> None:
        """Begin a choice point with the first thread that does not sleep."""
        accesses = {i: Access(p.key, p.kind, p.ready is not None) for i, p in enumerate(pending)}
        asleep = self._path[-1].asleep_below() if self._path else set()
        awake = [thread for thread in runnable if thread not in asleep]
        if not awake:
            for thread, access in accesses.items():
                if access.waits and thread not in runnable:
                    self._look_for_races(thread, access)
            raise Abandoned
        self._path.append(_Node(runnable, accesses, asleep, awake[0], [awake[0]]))

    def _perform(self, thread: int, access: Access) -> None:
        self._look_for_races(thread, access)
        self._history.append(thread, access)

    def _look_for_races(self, thread: int, access: Access) -> None:
        """Have the other order of every race tried where it begins."""
        for race in self._history.races(thread, access):
            self._path[race.at].want(race.initials, thread)
