"""userfaultfd events: telling a monitor that an area was forked, moved, emptied or unmapped.

The one who changes things sleeps until the event was read; ioctls that fill pages answer EAGAIN meanwhile.
"""

from collections.abc import Iterable

from pagewatch.model.uffd.context import Context, EventKind, Feature, Message
from pagewatch.model.vma import Vma
from pagewatch.steps import WAIT, wait


def removing(vma: Vma, start: int, end: int) -> Message | None:
    """Queue the event that [start, end) of an area loses its contents, if anybody wants it."""
    return _queue(vma.uffd, Feature.EVENT_REMOVE, EventKind.REMOVE, start, end)


def unmapped(areas: Iterable[Vma], start: int, end: int) -> list[Message]:
    """Queue the events that areas were unmapped; their contexts are told after the fact."""
    messages = [
        _queue(vma.uffd, Feature.EVENT_UNMAP, EventKind.UNMAP, max(start, vma.start), min(end, vma.end))
        for vma in areas
    ]
    return [message for message in messages if message is not None]


def moved(context: Context | None, start: int, target: int, n_bytes: int) -> Message | None:
    """Queue the event that an area moved to another address."""
    message = _queue(context, Feature.EVENT_REMAP, EventKind.REMAP, start, start + n_bytes)
    if message is not None:
        message.target = target
    return message


def forked(parent: Context, child: Context) -> Message | None:
    """Queue the event that the address space was copied."""
    message = _queue(parent, Feature.EVENT_FORK, EventKind.FORK, 0, 0)
    if message is not None:
        message.child = child
    return message


def deliver(messages: Iterable[Message | None]) -> None:
    """Sleep until each event was read; the caller holds no lock.

    Without a scheduler a context's ``handler``, if any, gets its chance to read first.
    """
    for message in messages:
        if message is not None:
            _deliver(message)


def _deliver(message: Message) -> None:
    context = message.context
    if context.handler is not None and not message.woken:
        context.handler()
    wait(("userfault", context.number), WAIT, "userfault: event", lambda: message.woken or context.closed)


def _queue(context: Context | None, feature: Feature, kind: EventKind, start: int, end: int) -> Message | None:
    if context is None or not context.features & feature or context.closed:
        return None
    message = Message(context, kind, start)
    message.end = end
    context.queue_event(message)
    return message
