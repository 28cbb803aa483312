"""Handing a fault to a userfaultfd (``handle_userfault``)."""

from pagewatch.model.arch.format import LEAF, MARKER, UFFD_WP, WRITE
from pagewatch.model.fault.state import Fault, Outcome
from pagewatch.model.uffd.context import Feature, Message, Reason
from pagewatch.model.walk import seek
from pagewatch.steps import WAIT, wait


def notify(fault: Fault, reason: Reason) -> Outcome:
    """Queue a message, or refuse; the caller drops its locks and then sleeps (:func:`sleep`).

    Under an area's lock alone it only asks to be called again under the mmap lock. With the SIGBUS
    feature nobody is told; nor can kernel code wait for a descriptor that is for user mode only.
    """
    context = fault.vma.uffd
    if context is None:
        return Outcome.SIGBUS
    if fault.per_vma:
        return Outcome.RETRY
    if context.features & Feature.SIGBUS or (context.user_mode_only and not fault.user):
        return Outcome.SIGBUS
    address = fault.exact if context.features & Feature.EXACT_ADDRESS else fault.address
    message = context.queue_fault(address, reason, writing=fault.writing)
    # The entry may have been resolved before the message could be seen: then nobody would wake us.
    if not _must_wait(fault, reason):
        context.forget(message)
        return Outcome.RETRY
    fault.message = message
    return Outcome.SLEEP


def sleep(message: Message) -> None:
    """Wait until a wake-up covers the message's address.

    Without a scheduler the context's ``handler``, if any, gets its chance to answer first.
    """
    context = message.context
    if context.handler is not None and not message.woken:
        context.handler()
    wait(("userfault", context.number), WAIT, "userfault: sleep", lambda: message.woken)


def _must_wait(fault: Fault, reason: Reason) -> bool:
    """``userfaultfd_must_wait``: whether the entry still needs an answer; read without a lock."""
    spot = seek(fault.mm, fault.address, "userfault: must wait")
    if spot.kind != LEAF:
        return spot.entry == 0 or spot.kind == MARKER
    flags = spot.fmt.flags(spot.entry)
    return reason is Reason.WP and not flags & WRITE and bool(flags & UFFD_WP)
