"""What happened before what: the steps of one execution with their vector clocks, and the races between them.

A step happens before another if it comes first and conflicts with it, or both are of one thread, or
by a chain of such steps. A vector clock counts for each thread how many of its steps happened before.
"""

from bisect import bisect_right
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from pagewatch.explore.dependence import Access, conflict, overlap, reversible
from pagewatch.steps import Whole

Clock = tuple[int, ...]


class Event(NamedTuple):
    """One performed step."""

    thread: int
    access: Access
    clock: Clock
    """How many steps of each thread happened before it, itself included."""

    @property
    def number(self) -> int:
        """Which step of its thread it is, from 1."""
        return self.clock[self.thread]


class Race(NamedTuple):
    """An earlier step that an access conflicts with and that nothing else puts before it."""

    at: int
    """Which step, from 0."""
    initials: frozenset[int]
    """The threads that can take the first step of the other order, that is, of what did not depend on the
    earlier step and then the access; of a thread that has no step there yet, the access itself."""


class History:
    """The steps of an execution so far; taken back from the end."""

    __slots__ = ("_at_key", "_at_wholes", "_events", "_none", "_of_thread")

    def __init__(self, n_threads: int) -> None:
        """:param n_threads: they are numbered from 0."""
        self._none: Clock = (0,) * n_threads
        self._events: list[Event] = []
        self._at_key: dict[Hashable, list[int]] = {}
        self._at_wholes: list[int] = []
        self._of_thread: list[list[int]] = [[] for _ in range(n_threads)]

    def __len__(self) -> int:
        """How many steps."""
        return len(self._events)

    def append(self, thread: int, access: Access) -> None:
        """A thread performs an access."""
        clock = self._clock(thread)
        for index in reversed(self._at(access.key)):
            event = self._events[index]
            if event.number > clock[event.thread] and conflict(event.access, access):
                clock = _join(clock, event.clock)
        clock = (*clock[:thread], clock[thread] + 1, *clock[thread + 1 :])
        self._at_key.setdefault(access.key, []).append(len(self._events))
        if type(access.key) is Whole:
            self._at_wholes.append(len(self._events))
        self._of_thread[thread].append(len(self._events))
        self._events.append(Event(thread, access, clock))

    def pop(self) -> None:
        """Take the last step back."""
        event = self._events.pop()
        self._at_key[event.access.key].pop()
        if type(event.access.key) is Whole:
            self._at_wholes.pop()
        self._of_thread[event.thread].pop()

    def races(self, thread: int, access: Access) -> Iterator[Race]:
        """The races of an access that a thread is about to perform, or waits for in vain; latest first.

        A race is left out if another one lies between: it shows up when that one is reversed. But not so
        for one that has to wait: the race between may have no other order.
        """
        own = self._clock(thread)
        reach = own
        found = []
        for index in reversed(self._at(access.key)):
            event = self._events[index]
            if event.thread == thread or not conflict(event.access, access) or not reversible(event.access, access):
                continue
            if event.number > (own if access.waits else reach)[event.thread]:
                found.append(index)
            reach = _join(reach, event.clock)
        for index in found:
            yield Race(index, self._initials(index, thread, reach))

    def _at(self, key: Hashable) -> Sequence[int]:
        """Which steps had an object of this key, ascending. Wholes are rare, so they need not be fast."""
        if type(key) is Whole:
            return [index for index, event in enumerate(self._events) if overlap(event.access.key, key)]
        exactly = self._at_key.get(key, ())
        wholes = [index for index in self._at_wholes if overlap(self._events[index].access.key, key)]
        return sorted([*exactly, *wholes]) if wholes else exactly

    def _initials(self, index: int, thread: int, reach: Clock) -> frozenset[int]:
        """Of the steps behind ``index`` that did not happen after it, followed by the access: who can begin."""
        earlier = self._events[index]
        first = {}
        for other, indexes in enumerate(self._of_thread):
            at = bisect_right(indexes, index)
            if at < len(indexes):
                event = self._events[indexes[at]]
                if event.clock[earlier.thread] < earlier.number:
                    first[other] = event
        clocks = {other: event.clock for other, event in first.items()}
        clocks.setdefault(thread, reach)
        return frozenset(
            one
            for one, clock in clocks.items()
            if all(clock[other] < event.number for other, event in first.items() if other != one)
        )

    def _clock(self, thread: int) -> Clock:
        """What happened before the next step of a thread, as far as its own last step tells."""
        indexes = self._of_thread[thread]
        return self._events[indexes[-1]].clock if indexes else self._none


def _join(one: Clock, other: Clock) -> Clock:
    return tuple(map(max, one, other))
