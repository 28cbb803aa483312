"""The two locks that hugetlb has beyond those of other memory.

* The *fault mutex* of a page of a file: one thread at a time makes the page or takes it away.
* The *vma lock*: who looks at huge entries holds it for reading, who takes a shared page table out of the
  tree holds it for writing. Private areas use the lock of their reservation map for the same purpose.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from pagewatch.model.locks import Lock

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping
    from pagewatch.model.machine import Machine
    from pagewatch.model.vma import Vma


def fault_mutex(file: "FileMapping", index: int) -> Lock:
    """The mutex of the huge page that begins at a page offset (``hugetlb_fault_mutex_hash``)."""
    if index not in file.fault_mutexes:
        file.fault_mutexes[index] = Lock(("hugetlb fault", file.number, index), "hugetlb fault mutex")
    return file.fault_mutexes[index]


def reading(machine: "Machine", vma: "Vma") -> AbstractContextManager[None]:
    """Hold the vma lock so that no page table goes from under a walk (``hugetlb_vma_lock_read``)."""
    if vma.huge_lock is None or not machine.quirks.hugetlb_vma_lock:
        return nullcontext()
    return vma.huge_lock.shared


def writing(machine: "Machine", vma: "Vma") -> AbstractContextManager[None]:
    """Hold the vma lock to unshare page tables (``hugetlb_vma_lock_write``)."""
    if vma.huge_lock is None or not machine.quirks.hugetlb_vma_lock:
        return nullcontext()
    return vma.huge_lock.exclusive


def owned_file(vma: "Vma") -> "FileMapping":
    """The file of a hugetlb area: there always is one, if only an unnamed one."""
    if vma.file is None:
        raise AssertionError(f"{vma} is hugetlb without a file")
    return vma.file
