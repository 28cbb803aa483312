"""The state of one address space (``struct mm_struct``)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pagewatch.model.errors import os_error
from pagewatch.model.locks import RwLock
from pagewatch.model.vma import Vma, VmaSet

if TYPE_CHECKING:
    from pagewatch.model.machine import Machine
    from pagewatch.model.notifier import SecondaryMmu
    from pagewatch.model.tables import Table
    from pagewatch.model.tlb import Cpu


class Mm:
    """One address space: areas, page tables, and the locks over them.

    Lock order: mmap lock, area locks, ``i_mmap``, ``anon_vma``, directory table locks, PTE table locks.
    """

    __slots__ = (
        "_write_locked",
        "cpus",
        "dead",
        "id",
        "machine",
        "mmap_lock",
        "notifiers",
        "pending_flushes",
        "root",
        "vmas",
        "write_protect_seq",
    )

    def __init__(self, machine: "Machine", number: int) -> None:
        """:param number: unique in the machine; also the tag of its TLB entries."""
        self.machine = machine
        self.id = number
        self.vmas = VmaSet()
        self.root: Table = machine.tables.alloc(machine.fmt.root)
        self.mmap_lock = RwLock(("mmap", number), "mmap lock")
        self.cpus: list[Cpu] = []
        """CPUs that have run it: where translations may be cached (``mm_cpumask``)."""
        self.notifiers: list[SecondaryMmu] = []
        self.pending_flushes = 0
        """Changes whose flush is deferred past the table lock (``tlb_flush_pending``)."""
        self.write_protect_seq = 0
        """Odd while fork makes entries read-only: a pin taken without a lock meanwhile is given back."""
        self.dead = False
        self._write_locked: list[Vma] = []

    @property
    def top(self) -> int:
        """End of user addresses, bytes (``TASK_SIZE``)."""
        return self.machine.task_bytes

    @contextmanager
    def write_locked(self) -> Iterator[None]:
        """Hold the mmap lock for writing, and with it every area passed to :meth:`lock_vma` meanwhile."""
        with self.mmap_lock.exclusive:
            try:
                yield
            finally:
                while self._write_locked:
                    self._write_locked.pop().lock.exclusive.release()

    def lock_vma(self, vma: Vma) -> None:
        """Keep faults out of an area until the mmap lock is dropped (``vma_start_write``)."""
        if not vma.lock.is_held_exclusively() and not self.machine.quirks.areas_change_without_their_lock:
            vma.lock.exclusive.acquire()
            self._write_locked.append(vma)

    def check_alive(self, what: str, number: int) -> None:
        """Refuse a call on the address space of an exited process.

        :raises OSError: with that errno.
        """
        if self.dead:
            raise os_error(number, what)

    def __repr__(self) -> str:
        return f"<Mm {self.id}{' dead' if self.dead else ''}, {len(self.vmas)} areas>"
