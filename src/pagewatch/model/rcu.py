"""RCU: readers that take no lock, and frees that wait for them.

What is freed by :meth:`Rcu.call` goes when every read section that was open at the call has closed. A
page table freed so can still be read, but not found, by those who were already in it.
"""

from collections.abc import Callable
from types import TracebackType

from pagewatch.steps import READ, WRITE, access, thread


class Rcu:
    """Read sections and pending callbacks; a context manager is one read section."""

    __slots__ = ("_open", "_pending", "_serial")

    def __init__(self) -> None:
        self._serial = 0
        self._open: dict[int, object] = {}
        self._pending: list[tuple[frozenset[int], Callable[[], None]]] = []

    def __enter__(self) -> None:
        access("rcu", READ, "rcu: read lock")
        self._serial += 1
        self._open[self._serial] = thread()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        access("rcu", READ, "rcu: read unlock")
        me = thread()
        mine = [serial for serial, owner in self._open.items() if owner == me]
        if mine:
            del self._open[mine[-1]]
        if self._pending:
            # Of readers that leave side by side, the order decides who frees.
            access("rcu", WRITE, "rcu: grace period over?")
            self._run_ready()

    def call(self, free: Callable[[], None]) -> None:
        """Run ``free`` after a grace period (``call_rcu``); at once where nobody reads."""
        access("rcu", WRITE, "rcu: call")
        self._pending.append((frozenset(self._open), free))
        self._run_ready()

    def _run_ready(self) -> None:
        ready = [free for waits_for, free in self._pending if not waits_for & self._open.keys()]
        self._pending = [entry for entry in self._pending if entry[0] & self._open.keys()]
        for free in ready:
            free()
