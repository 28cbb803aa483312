"""One execution for each way a program can really differ: enumeration with sleep sets.

Two adjacent steps of different threads that do not conflict may be swapped without any effect. Executions
that differ in such swaps only are one (Mazurkiewicz) trace. Where a thread was tried at a choice point, it
sleeps in the branches tried after it, until some step conflicts with its own: what it would do in between
has been seen already (Godefroid's sleep sets). Each trace is executed exactly once; executions in which
all runnable threads sleep are cut, and not given out.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from pagewatch.explore.engine import Abandoned, Build, Execution, Pending, run
from pagewatch.steps import Kind

Access = tuple[Hashable, Kind]

_SHARING = frozenset({Kind.READ, Kind.LOCK_SHARED})


def conflict(one: Access, other: Access) -> bool:
    """Whether the order of two accesses of different threads matters."""
    return one[0] == other[0] and not (one[1] is other[1] and one[1] in _SHARING)


@dataclass(slots=True)
class _Node:
    """A choice point on the current path: who may be tried, who sleeps, and what each would do."""

    runnable: tuple[int, ...]
    accesses: dict[int, Access]
    asleep: set[int]
    chosen: int = -1
    tried: list[int] = field(default_factory=list)

    def next_choice(self) -> int | None:
        """The next thread to try here, or None."""
        for thread in self.runnable:
            if thread not in self.asleep and thread not in self.tried:
                return thread
        return None

    def asleep_below(self) -> set[int]:
        """Who sleeps after the chosen step: those it does not conflict with."""
        step = self.accesses[self.chosen]
        earlier = self.asleep.union(self.tried) - {self.chosen}
        return {thread for thread in earlier if not conflict(step, self.accesses[thread])}


def enumerate_traces(build: Build) -> Iterator[Execution]:
    """One complete (or deadlocked) execution of each trace, depth first and deterministically.

    ``build`` must make the same program every time. The number of traces may still be large: it is up to
    the caller to stop.
    """
    path: list[_Node] = []
    while True:
        execution = _execute(build, path)
        if not execution.abandoned:
            yield execution
        while path:
            node = path[-1]
            node.tried.append(node.chosen)
            following = node.next_choice()
            if following is not None:
                node.chosen = following
                break
            path.pop()
        if not path:
            return


def _execute(build: Build, path: list[_Node]) -> Execution:
    """Replay the choices of ``path``, then go on with the first that does not sleep, extending it."""
    depth = 0

    def choose(runnable: tuple[int, ...], pending: Sequence[Pending]) -> int:
        nonlocal depth
        if depth == len(path):
            asleep = path[-1].asleep_below() if path else set()
            accesses: dict[int, Access] = {i: (pending[i].key, pending[i].kind) for i in runnable}
            node = _Node(runnable, accesses, asleep & set(runnable))
            first = node.next_choice()
            if first is None:
                raise Abandoned
            node.chosen = first
            path.append(node)
        depth += 1
        return path[depth - 1].chosen

    return run(build(), choose)
