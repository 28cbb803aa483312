"""The descriptor: what user code holds of a userfaultfd."""

import errno
from collections.abc import Callable

from pagewatch.model.errors import os_error
from pagewatch.model.uffd import fill
from pagewatch.model.uffd.context import Context, Feature, Message, Mode
from pagewatch.model.uffd.move import move
from pagewatch.model.uffd.register import detach, register, unregister
from pagewatch.model.uffd.writeprotect import protect_range, resolve_range


class Userfaultfd:
    """A userfaultfd of one address space, past UFFDIO_API. Ranges are (start, length), in bytes."""

    __slots__ = ("context",)

    def __init__(self, context: Context) -> None:
        """:param context: made by :meth:`pagewatch.model.kernel.Process.userfaultfd`."""
        self.context = context

    @property
    def features(self) -> Feature:
        """The features in force."""
        return self.context.features

    def register(self, start: int, length: int, mode: Mode = Mode.WP) -> None:
        """Watch the areas of a range; see :func:`~pagewatch.model.uffd.register.register` for errors."""
        register(self._open(), start, length, mode)

    def unregister(self, start: int, length: int) -> None:
        """Stop watching a range; protection in it is lifted."""
        unregister(self._open(), start, length)

    def writeprotect(self, start: int, length: int, *, protect: bool = True, wake: bool = True) -> None:
        """Protect a range, or with ``protect=False`` resolve it and wake the sleepers."""
        if protect:
            protect_range(self._open(), start, length)
        else:
            resolve_range(self._open(), start, length, wake=wake)

    def copy(self, start: int, data: bytes, *, protect: bool = False, wake: bool = True) -> int:
        """Fill pages with ``data``; returns the bytes filled."""
        return fill.copy(self._open(), start, data, protect=protect, wake=wake)

    def zeropage(self, start: int, length: int, *, wake: bool = True) -> int:
        """Fill pages with zeros; returns the bytes filled."""
        return fill.zeropage(self._open(), start, length, wake=wake)

    def continue_(self, start: int, length: int, *, protect: bool = False, wake: bool = True) -> int:
        """Map what the page cache holds; returns the bytes mapped."""
        return fill.continue_(self._open(), start, length, protect=protect, wake=wake)

    def poison(self, start: int, length: int, *, wake: bool = True) -> int:
        """Make accesses fail like broken memory; returns the bytes poisoned."""
        return fill.poison(self._open(), start, length, wake=wake)

    def move(self, to: int, start: int, length: int, *, holes: bool = False, wake: bool = True) -> int:
        """Move pages from ``start`` to ``to``, which is watched; returns the bytes done, see :func:`~.move.move`."""
        return move(self._open(), to, start, length, holes=holes, wake=wake)

    def wake(self, start: int, length: int) -> None:
        """Let sleepers in a range go on."""
        self._open().wake(start, start + length)

    def read(self) -> Message:
        """The oldest unread message.

        :raises OSError: EAGAIN where there is none.
        """
        message = self._open().read()
        if message is None:
            raise os_error(errno.EAGAIN, "read")
        return message

    def handle_with(self, handler: Callable[[], None] | None) -> None:
        """Without a scheduler, call ``handler`` whenever a fault is about to sleep, as a thread would run."""
        self._open().handler = handler

    def close(self) -> None:
        """Lift registration and protection of everything it watches, wake everybody. Twice is no error."""
        context = self.context
        if context.closed:
            return
        context.closed = True
        mm = context.mm
        with mm.write_locked():
            for vma in mm.vmas:
                if vma.uffd is context:
                    detach(mm, vma, vma.start, vma.end)
        context.events.clear()
        context.wake(0, 1 << 64)

    def _open(self) -> Context:
        if self.context.closed:
            raise os_error(errno.EBADF, "userfaultfd")
        return self.context
