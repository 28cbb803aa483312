"""What is taken out of an address space, and how thoroughly (``struct mmu_gather``, ``zap_flags_t``)."""

from enum import Enum
from typing import TYPE_CHECKING

from pagewatch.model.tlb import flush_range

if TYPE_CHECKING:
    from pagewatch.model.memory import Folio
    from pagewatch.model.mm import Mm


class Zap(Enum):
    """How thorough to be."""

    DONTNEED = "contents only: protection of file memory stays as markers, guards stay"
    TRUNCATE = "contents that are gone from the file; private copies, too"
    UNMAP = "everything, markers and guards included"
    HOLE = "page-cache pages only: private copies stay"


class Gather:
    """What was taken out and waits for its flush (``struct mmu_gather``)."""

    __slots__ = ("end", "folios", "mm", "start")

    def __init__(self, mm: "Mm") -> None:
        """:param mm: the address space that loses the pages."""
        self.mm = mm
        self.folios: list[Folio] = []
        self.start = self.end = 0

    def add(self, address: int, n_bytes: int, folio: "Folio | None") -> None:
        """Note a cleared leaf and the reference it held."""
        self.start = min(self.start, address) if self.end else address
        self.end = max(self.end, address + n_bytes)
        if folio is not None:
            self.folios.append(folio)

    def flush(self) -> None:
        """Flush what was cleared; the folios stay held."""
        if self.end:
            flush_range(self.mm, self.start, self.end)
            self.start = self.end = 0

    def finish(self) -> None:
        """Flush, then release the folios."""
        self.flush()
        for folio in self.folios:
            self.mm.machine.memory.put(folio, "zap: release")
        self.folios.clear()
