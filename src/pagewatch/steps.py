"""The one hook between a program that shares state and whatever schedules it.

Plain code calls :func:`access` before each access to shared state: a page-table entry, a TLB slot, a
lock, a reference count, a page's content, a bitmap word. Without a scheduler the call does nothing and
costs about 0.1 us. A scheduler installs a hook with :func:`scheduled`; the hook may then run other
simulated threads before it returns.

To wait is an access, too: ``ready`` says whether it can happen now. Without a scheduler nobody else
could ever make it ready, so the call raises :class:`WouldBlock` instead of hanging.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Kind(IntEnum):
    """What an access does to its object; two accesses commute unless one of them changes it."""

    READ = 0
    WRITE = 1
    RMW = 2
    """An atomic read-modify-write, such as a hardware dirty-bit update or a counter."""
    LOCK = 3
    """Taking a lock alone; waits until it is free."""
    LOCK_SHARED = 4
    """Taking a lock with other readers; waits for a writer."""
    UNLOCK = 5
    UNLOCK_SHARED = 6
    """Leaving a lock that other readers may be in."""
    FENCE = 7
    """A full memory barrier; its object is the thread itself."""
    WAIT = 8
    """Sleeping until a condition on the object holds."""


# Enum attribute look-up is slow in a loop; the names below are the same values.
READ = Kind.READ
WRITE = Kind.WRITE
RMW = Kind.RMW
LOCK = Kind.LOCK
LOCK_SHARED = Kind.LOCK_SHARED
UNLOCK = Kind.UNLOCK
UNLOCK_SHARED = Kind.UNLOCK_SHARED
FENCE = Kind.FENCE
WAIT = Kind.WAIT

Ready = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Whole:
    """The key of all objects whose keys are tuples of ``name`` and one item more.

    For who frees, or looks through, all of them at once: such an access is one of each.
    """

    name: tuple[Hashable, ...]

    def has(self, key: Hashable) -> bool:
        """Whether an object is among them."""
        return isinstance(key, tuple) and key[:-1] == self.name


class WouldBlock(RuntimeError):
    """A wait that nobody can end: there is no scheduler, so no other thread will run.

    ``key`` is the object waited for and ``label`` the waiting step.
    """

    def __init__(self, key: Hashable, label: str) -> None:
        """:param key: the object waited for."""
        super().__init__(f"{label}: would sleep for ever, no other thread can run (waiting for {key!r})")
        self.key = key
        self.label = label


class Hook(Protocol):
    """What a scheduler installs."""

    def access(self, key: Hashable, kind: Kind, label: str, ready: Ready | None) -> None:
        """Return when the calling thread may perform this access; ``ready`` holds then."""
        ...

    def thread(self) -> Hashable:
        """The identity of the calling simulated thread."""
        ...


class Observer(Protocol):
    """What watches a program without changing it."""

    def before(self, thread: Hashable, key: Hashable, kind: Kind, label: str) -> None:
        """An access is about to happen; no other comes in between."""
        ...


class _Observed:
    """A hook that tells an observer what the scheduler, if any, lets happen."""

    __slots__ = ("_observer", "_scheduler")

    def __init__(self, observer: Observer, scheduler: Hook | None) -> None:
        self._observer = observer
        self._scheduler = scheduler

    def access(self, key: Hashable, kind: Kind, label: str, ready: Ready | None) -> None:
        if self._scheduler is not None:
            self._scheduler.access(key, kind, label, ready)
        elif ready is not None and not ready():
            raise WouldBlock(key, label)
        self._observer.before(self.thread(), key, kind, label)

    def thread(self) -> Hashable:
        return 0 if self._scheduler is None else self._scheduler.thread()


_scheduler: Hook | None = None
_observer: Observer | None = None
_hook: Hook | None = None
"""What an access calls: the scheduler, an observer in front of it, or nobody."""


def access(key: Hashable, kind: Kind, label: str) -> None:
    """Announce one access to shared state, just before it happens.

    :param key: the object; equal keys are the same object.
    :param label: function and role, stable between executions, such as ``"scan: get and protect"``.
    """
    if _hook is not None:
        _hook.access(key, kind, label, None)


def wait(key: Hashable, kind: Kind, label: str, ready: Ready) -> None:
    """Announce an access that can happen only when ``ready()`` holds, and wait for that.

    :param ready: free of side effects; evaluated by the scheduler whenever it likes.
    :raises WouldBlock: there is no scheduler and it is not ready now.
    """
    if _hook is not None:
        _hook.access(key, kind, label, ready)
    elif not ready():
        raise WouldBlock(key, label)


def thread() -> Hashable:
    """The identity of the running simulated thread; 0 without a scheduler."""
    return 0 if _hook is None else _hook.thread()


@contextmanager
def scheduled(hook: Hook) -> Iterator[None]:
    """Install ``hook`` for the duration of a ``with`` block; blocks nest, the innermost is in force."""
    outer = _scheduler
    _install(hook, _observer)
    try:
        yield
    finally:
        _install(outer, _observer)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Show ``observer`` every access within a ``with`` block, scheduled or not; the innermost is in force."""
    outer = _observer
    _install(_scheduler, observer)
    try:
        yield
    finally:
        _install(_scheduler, outer)


def _install(scheduler: Hook | None, observer: Observer | None) -> None:
    global _scheduler, _observer, _hook  # noqa: PLW0603 - the one hook is the point of this module
    _scheduler, _observer = scheduler, observer
    _hook = scheduler if observer is None else _Observed(observer, scheduler)
