"""Page faults: take the locks, choose the way to answer, turn the outcome into a signal or an errno."""

import errno
from signal import SIGBUS, SIGSEGV
from typing import TYPE_CHECKING

from pagewatch.model.arch.format import LEAF, NONE, WRITE
from pagewatch.model.errors import BUS_ADRERR, BUS_MCEERR_AR, SEGV_ACCERR, SEGV_MAPERR, Signal, os_error
from pagewatch.model.fault.anon import anonymous_fault
from pagewatch.model.fault.file import file_fault
from pagewatch.model.fault.huge import huge_fault
from pagewatch.model.fault.notify import sleep
from pagewatch.model.fault.state import Access, Fault, Outcome, allows
from pagewatch.model.fault.swap import nonpresent_fault
from pagewatch.model.fault.wp import write_protect_fault
from pagewatch.model.hugetlb.fault import hugetlb_fault
from pagewatch.model.walk import populate, seek
from pagewatch.steps import READ, access

if TYPE_CHECKING:
    from pagewatch.model.mm import Mm


def user_fault(mm: "Mm", address: int, wanted: Access) -> None:
    """Handle the fault of a user's access (``do_user_addr_fault``); the instruction then runs again.

    :raises Signal: the access cannot be allowed.
    """
    outcome = _under_vma_lock(mm, address, wanted)
    if outcome is Outcome.RETRY:
        outcome = _under_mmap_lock(mm, address, wanted, user=True)
    if outcome is not Outcome.DONE:
        raise _signal(mm, address, outcome)


def kernel_fault(mm: "Mm", address: int, wanted: Access) -> None:
    """Handle the fault of a system call's access to user memory (``fault_in_user_writeable`` and kin).

    :raises OSError: EFAULT.
    """
    outcome = fault_outcome(mm, address, wanted)
    if outcome is not Outcome.DONE:
        raise os_error(errno.EFAULT, "user memory")


def fault_outcome(mm: "Mm", address: int, wanted: Access) -> Outcome:
    """Handle a fault on the kernel's own behalf, under the mmap lock, and say how it ended."""
    return _under_mmap_lock(mm, address, wanted, user=False)


def handle(fault: Fault) -> Outcome:
    """One attempt, with a lock on the area held (``handle_mm_fault``)."""
    if fault.vma.hugetlb:
        return hugetlb_fault(fault)
    fault.spot = seek(fault.mm, fault.address, "fault: find")
    if fault.spot.level > 1 and fault.spot.kind == NONE:
        # Down to where a huge leaf could stand tables are made first thing, even if the fault then fails.
        fault.spot = populate(fault.mm, fault.address, "fault: make tables", level=1)
    if fault.spot.level:
        outcome = huge_fault(fault)
        if outcome is not None:
            return outcome
        fault.spot = seek(fault.mm, fault.address, "fault: find again")
    return _handle_pte(fault)


def _handle_pte(fault: Fault) -> Outcome:
    """Answer a fault below all huge leaves (``handle_pte_fault``)."""
    kind = fault.spot.kind
    if fault.spot.level and kind != NONE:
        return Outcome.DONE  # a huge leaf came meanwhile
    if kind == NONE:
        return _missing(fault)
    if kind != LEAF:
        return nonpresent_fault(fault, _missing)
    fmt, table = fault.fmt, fault.table
    table.lock.acquire()
    if not fault.unchanged():
        table.lock.release()
        return Outcome.DONE
    entry = fault.spot.entry
    if fault.access is not Access.READ and not fmt.flags(entry) & WRITE:
        return write_protect_fault(fault)
    entry = fmt.mkyoung(fmt.mkdirty(entry) if fault.writing else entry)
    if entry != fault.spot.entry:
        fault.set_entry(entry, "fault: set accessed and dirty")
    table.lock.release()
    return Outcome.DONE


def _missing(fault: Fault) -> Outcome:
    """Nothing is mapped: an empty entry, or a marker that stands for none (``do_pte_missing``)."""
    file = fault.vma.file
    return anonymous_fault(fault) if file is None else file_fault(fault, file)


def _under_vma_lock(mm: "Mm", address: int, wanted: Access) -> Outcome:
    """Try with nothing but the area's own lock (``lock_vma_under_rcu``)."""
    access(("areas", mm.id), READ, "fault: find the area")
    vma = mm.vmas.at(address)
    if vma is None or not vma.lock.try_shared():
        return Outcome.RETRY
    try:
        # The area may have gone or moved before its lock was held.
        if mm.vmas.at(address) is not vma or not allows(vma, wanted):
            return Outcome.RETRY
        return handle(Fault(mm, vma, address, wanted, user=True, per_vma=True))
    finally:
        vma.lock.shared.release()


def _under_mmap_lock(mm: "Mm", address: int, wanted: Access, *, user: bool) -> Outcome:
    while True:
        with mm.mmap_lock.shared:
            vma = mm.vmas.at(address)
            if vma is None:
                return Outcome.SIGSEGV
            if not allows(vma, wanted):
                return Outcome.NOT_ALLOWED
            fault = Fault(mm, vma, address, wanted, user=user, per_vma=False)
            outcome = handle(fault)
        if fault.message is not None:
            sleep(fault.message)
        elif outcome is not Outcome.RETRY:
            return outcome


def _signal(mm: "Mm", address: int, outcome: Outcome) -> Signal:
    if outcome is Outcome.HWPOISON:
        if mm.machine.quirks.memory_failure:
            where = f"due to hardware memory corruption fault at {address:#x}"
            mm.machine.log.append(f"MCE: Killing process {mm.id} {where}")
            vma = mm.vmas.at(address)
            failed_bytes = mm.machine.page_bytes if vma is None else vma.page_bytes
            return Signal(SIGBUS, BUS_MCEERR_AR, address, lsb=failed_bytes.bit_length() - 1)
        return Signal(SIGBUS, BUS_ADRERR, address)
    if outcome is Outcome.NOT_ALLOWED:
        return Signal(SIGSEGV, SEGV_ACCERR, address)
    if outcome is Outcome.SIGSEGV:
        return Signal(SIGSEGV, SEGV_MAPERR, address)
    return Signal(SIGBUS, BUS_ADRERR, address)
