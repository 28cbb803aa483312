"""Locks whose every acquisition and release is announced, so that an explorer can interleave them.

The state of a lock lives here, not in the scheduler: the scheduler only asks whether it is free.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from types import TracebackType

from pagewatch.steps import LOCK, LOCK_SHARED, UNLOCK, UNLOCK_SHARED, access, thread, wait

_FREE = object()


class _Held(ABC):
    """What is held within a ``with`` block."""

    __slots__ = ()

    @abstractmethod
    def acquire(self) -> None:
        """Wait until it can be had, and take it."""

    @abstractmethod
    def release(self) -> None:
        """Give it back."""

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Lock(_Held):
    """A spinlock or mutex; ``label`` is its name in schedules. A context manager."""

    __slots__ = ("key", "label", "owner")

    def __init__(self, key: Hashable, label: str) -> None:
        """:param key: the object announced; unique in its kernel."""
        self.key = key
        self.label = label
        self.owner: object = _FREE

    def is_free(self) -> bool:
        """Whether nobody holds it."""
        return self.owner is _FREE

    def acquire(self) -> None:
        """Wait until it is free, and take it."""
        wait(self.key, LOCK, self.label, self.is_free)
        self.owner = thread()

    def try_acquire(self) -> bool:
        """Take it if it is free now."""
        access(self.key, LOCK, self.label)
        if self.owner is not _FREE:
            return False
        self.owner = thread()
        return True

    def release(self) -> None:
        """Give it back."""
        access(self.key, UNLOCK, self.label)
        self.owner = _FREE


class RwLock:
    """A lock with one writer or many readers: ``with lock.shared`` and ``with lock.exclusive``."""

    __slots__ = ("exclusive", "key", "label", "readers", "shared", "writer")

    def __init__(self, key: Hashable, label: str) -> None:
        """:param key: the object announced; unique in its kernel."""
        self.key = key
        self.label = label
        self.writer: object = _FREE
        self.readers: list[Hashable] = []
        self.shared = _Shared(self)
        self.exclusive = _Exclusive(self)

    def no_writer(self) -> bool:
        """Whether readers may enter."""
        return self.writer is _FREE

    def is_free(self) -> bool:
        """Whether nobody holds it."""
        return self.writer is _FREE and not self.readers

    def try_shared(self) -> bool:
        """Enter as a reader if no writer is in now."""
        access(self.key, LOCK_SHARED, self.label)
        if self.writer is not _FREE:
            return False
        self.readers.append(thread())
        return True

    def is_held_exclusively(self) -> bool:
        """Whether the calling thread is the writer."""
        return self.writer is not _FREE and self.writer == thread()


class _Side(_Held):
    """One of the two ways to hold an :class:`RwLock`."""

    __slots__ = ("lock",)

    def __init__(self, lock: RwLock) -> None:
        self.lock = lock


class _Shared(_Side):
    """The reading side of an :class:`RwLock`."""

    __slots__ = ()

    def acquire(self) -> None:
        """Wait until no writer is in, and enter."""
        lock = self.lock
        wait(lock.key, LOCK_SHARED, lock.label, lock.no_writer)
        lock.readers.append(thread())

    def release(self) -> None:
        """Leave."""
        lock = self.lock
        access(lock.key, UNLOCK_SHARED, lock.label)
        me = thread()
        if me in lock.readers:  # an unwinding thread may leave before it could enter
            lock.readers.remove(me)


class _Exclusive(_Side):
    """The writing side of an :class:`RwLock`."""

    __slots__ = ()

    def acquire(self) -> None:
        """Wait until nobody is in, and enter alone."""
        lock = self.lock
        wait(lock.key, LOCK, lock.label, lock.is_free)
        lock.writer = thread()

    def release(self) -> None:
        """Leave."""
        lock = self.lock
        access(lock.key, UNLOCK, lock.label)
        lock.writer = _FREE
