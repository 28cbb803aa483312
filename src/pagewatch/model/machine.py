"""The state all address spaces share: CPUs, memory, page tables, swap, and which kernel this is."""

from typing import TYPE_CHECKING

from pagewatch.model.arch import ARCHES
from pagewatch.model.arch.format import INVALID
from pagewatch.model.contpte import FoldingTable
from pagewatch.model.locks import Lock
from pagewatch.model.memory import Memory
from pagewatch.model.mm import Mm
from pagewatch.model.quirks import Quirks
from pagewatch.model.rcu import Rcu
from pagewatch.model.swap import Swap
from pagewatch.model.tables import Table, Tables
from pagewatch.model.tlb import Cpu
from pagewatch.vocab.errors import InvalidArgument

if TYPE_CHECKING:
    from pagewatch.model.file import FileMapping


class Machine:
    """A machine without any process. Operations take it through ``mm.machine``."""

    __slots__ = (
        "_numbers",
        "cpus",
        "failing",
        "files",
        "fmt",
        "folds",
        "hashed",
        "log",
        "memory",
        "mms",
        "page_bytes",
        "page_shift",
        "pmd_bytes",
        "quirks",
        "rcu",
        "swap",
        "tables",
        "task_bytes",
        "thp_bytes",
    )

    def __init__(self, arch: str, *, cpus: int, quirks: Quirks) -> None:
        """:raises InvalidArgument: unknown arch, or no CPU."""
        if arch not in ARCHES:
            raise InvalidArgument(f"unknown arch {arch!r}; known: {', '.join(ARCHES)}")
        if cpus < 1:
            raise InvalidArgument(f"a machine needs a CPU, not {cpus}")
        self.fmt = ARCHES[arch]
        self.quirks = quirks
        self.page_bytes = self.fmt.page_bytes
        self.page_shift = self.fmt.at[0].page_shift
        # The lower half is the user's, as on x86-64; of 32 bits three quarters, as on powerpc. The last page
        # stays unmapped.
        user_quarters = 3 if self.fmt.address_bits == 32 else 2
        self.task_bytes = (user_quarters << self.fmt.address_bits - 2) - self.page_bytes
        self.pmd_bytes = 1 << self.fmt.at[1].shift
        middle = self.fmt.at[1]
        has_thp = self.pmd_bytes in middle.leaf_sizes and bool(middle.supported & INVALID)
        self.thp_bytes = self.pmd_bytes if has_thp else 0
        self.hashed = "hash" in self.fmt.features
        self.memory = Memory(self.page_bytes)
        self.folds = self.quirks.contpte and "folding" in self.fmt.features
        self.tables = Tables(self.fmt, self.memory, FoldingTable if self.folds else Table)
        self.swap = Swap()
        self.rcu = Rcu()
        self.cpus = tuple(Cpu(number) for number in range(cpus))
        self.mms: list[Mm] = []
        self.files: list[FileMapping] = []
        self.failing = Lock("failing", "memory failure: one at a time")
        """Who takes failed memory out of use holds it (``mf_mutex``)."""
        self.log: list[str] = []
        """What the kernel printed, oldest first."""
        self._numbers = 0

    def new_number(self) -> int:
        """A number not given out before: identities of areas, address spaces and the like."""
        self._numbers += 1
        return self._numbers

    def new_mm(self) -> Mm:
        """An empty address space."""
        mm = Mm(self, self.new_number())
        self.mms.append(mm)
        return mm
