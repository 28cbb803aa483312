"""Small families of schedules, for programs of two threads that are too long to enumerate.

:func:`interrupted_once` is every schedule in which one thread is interrupted once; :func:`overlapping` every
one in which each is. Most races need no more. Where a thread has to wait the other goes on.
"""

from collections.abc import Callable, Iterator, Sequence

from pagewatch.explore.engine import Build, Execution, Pending, run

At = Callable[[str], bool]
"""Whether a thread may be interrupted before the step with this label."""


def anywhere(label: str) -> bool:
    """Accepts every step."""
    return bool(label)


def interrupted_once(build: Build, *, first: int = 0, at: At = anywhere) -> Iterator[Execution]:
    """Thread ``first`` up to each step that ``at`` accepts, then the other as far as it can, then the first."""
    for point in _count():
        stops = [_Stop(first, at, point)]
        execution = _execute(build, stops, first)
        if not stops[0].reached:
            return
        yield execution


def overlapping(build: Build, *, first: At = anywhere, second: At = anywhere) -> Iterator[Execution]:
    """Thread 0 up to a step that ``first`` accepts, thread 1 up to one of ``second``, then 0, then 1."""
    for outer in _count():
        for inner in _count():
            stops = [_Stop(0, first, outer), _Stop(1, second, inner)]
            execution = _execute(build, stops, 0)
            if not stops[0].reached:
                return
            if not stops[1].reached:
                break
            yield execution


class _Stop:
    """Where a thread is interrupted: before the n-th step that is accepted."""

    def __init__(self, thread: int, at: At, n: int) -> None:
        self.thread = thread
        self.reached = False
        self._at = at
        self._left = n

    def before(self, label: str) -> bool:
        """Whether this step is the one."""
        if self._at(label):
            self._left -= 1
        self.reached = self._left < 0
        return self.reached


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _execute(build: Build, stops: list[_Stop], current: int) -> Execution:
    ahead = list(stops)

    def choose(runnable: tuple[int, ...], pending: Sequence[Pending]) -> int:
        nonlocal current
        if ahead and current in runnable and ahead[0].thread == current and ahead[0].before(pending[current].label):
            ahead.pop(0)
            current = 1 - current
        if current not in runnable:
            current = runnable[0]
        return current

    return run(build(), choose)
