"""Executions with few preemptions: what is left where all interleavings are too many.

A thread that ends or blocks has to give way; that costs nothing. To stop one that could go on is a
*preemption*, and of those only so many are allowed (iterative context bounding, Musuvathi and Qadeer). Most
races need one or two.

To stop a thread before a step that no other thread's steps conflict with is the same as to stop it later, at
the next one that some do: the two orders differ in steps only that commute. So it is stopped before
conflicting steps alone. Which objects those are is learned from the executions themselves; whenever one shows
a new object, the enumeration starts over, and gives out only what it has not yet. What is freed as a whole,
such as a page table, conflicts with every entry of it, which would be stops by the hundreds; here that does not
count (it does for :mod:`.traces`): where it matters, say where to stop.

A thread that tries again and again, until another has let go of something, would never give way by itself. So
whoever has taken very many steps in a row has to, and that costs nothing either.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from pagewatch.explore.engine import Build, Execution, Pending, run
from pagewatch.steps import Kind

PATIENCE = 20_000
"""Steps in a row after which a thread has to give way."""

_SHARING = frozenset({Kind.READ, Kind.LOCK_SHARED})


@dataclass(slots=True)
class _Node:
    """A step with a choice: who may make it, the one who goes on first, and which of them is tried now."""

    options: tuple[int, ...]
    tried: int = 0

    @property
    def chosen(self) -> int:
        return self.options[self.tried]


@dataclass(slots=True)
class _Use:
    """What each thread has done to an object."""

    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()

    @property
    def contended(self) -> bool:
        """Whether the order of two threads' accesses matters."""
        return bool(self.writes) and len(self.reads | self.writes) > 1


def enumerate_bounded(
    build: Build, preemptions: int, *, before: Callable[[str], bool] | None = None
) -> Iterator[Execution]:
    """Every execution with at most so many preemptions, once each, and deterministically.

    ``build`` must make the same program every time.

    :param before: preempt before every step whose label this accepts, and only there; without it, before every
        step that conflicts with one of another thread.
    """
    uses: dict[Hashable, _Use] = {}
    given: set[int] = set()
    complete = False
    while not complete:
        complete = True
        n_contended = _contended(uses)
        for execution in _enumerate(build, preemptions, before, uses):
            fingerprint = hash(execution.schedule)
            if fingerprint not in given:
                given.add(fingerprint)
                yield execution
            _learn(uses, execution)
            if _contended(uses) > n_contended:
                complete = False
                break


def _contended(uses: dict[Hashable, _Use]) -> int:
    return sum(use.contended for use in uses.values())


def _learn(uses: dict[Hashable, _Use], execution: Execution) -> None:
    for step in (*execution.steps, *execution.deadlocked):
        use = uses.setdefault(step.key, _Use())
        if step.kind in _SHARING:
            use.reads |= {step.thread}
        else:
            use.writes |= {step.thread}


def _enumerate(
    build: Build, preemptions: int, before: Callable[[str], bool] | None, uses: dict[Hashable, _Use]
) -> Iterator[Execution]:
    path: list[_Node] = []
    contended = {key for key, use in uses.items() if use.contended}

    def may_stop(step: Pending) -> bool:
        return step.key in contended if before is None else before(step.label)

    while True:
        yield _execute(build, path, preemptions, may_stop)
        while path and path[-1].tried + 1 == len(path[-1].options):
            path.pop()
        if not path:
            return
        path[-1].tried += 1


def _execute(build: Build, path: list[_Node], preemptions: int, may_stop: Callable[[Pending], bool]) -> Execution:
    """Replay the choices of ``path``, then let whoever runs go on, noting where it could be stopped."""
    depth, left, current, in_a_row = 0, preemptions, -1, 0

    def choose(runnable: tuple[int, ...], pending: Sequence[Pending]) -> int:
        nonlocal depth, left, current, in_a_row
        going_on = current in runnable and (in_a_row < PATIENCE or len(runnable) == 1)
        in_a_row += 1
        if going_on and (not left or not may_stop(pending[current])):
            return current
        before = current
        others = tuple(thread for thread in runnable if thread != current)
        options = (current, *others) if going_on else others
        if len(options) > 1:
            if depth == len(path):
                path.append(_Node(options))
            current, depth = path[depth].chosen, depth + 1
            left -= going_on and current != options[0]
        else:
            current = options[0]
        if current != before:
            in_a_row = 0
        return current

    return run(build(), choose)
