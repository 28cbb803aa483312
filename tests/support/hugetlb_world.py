"""Every huge page size of every format, and one mapping in the old and the new layout of the same processor."""

from typing import NamedTuple

from pagewatch.model import Kernel, Process
from pagewatch.model.arch.format import size_name
from support.formats import FORMATS

NEW_OF_OLD = {name: name.removesuffix("-hugepd") for name in FORMATS if name.endswith("-hugepd")}
"""Formats with hugepd, and the format that replaced each."""


class Size(NamedTuple):
    """A huge page size of a format."""

    arch: str
    n_bytes: int

    @property
    def name(self) -> str:
        return size_name(self.n_bytes)

    def __str__(self) -> str:
        return f"{self.arch}-{self.name}"


SIZES = [Size(name, size) for name, fmt in FORMATS.items() for size in fmt.shapes if size > fmt.page_bytes]
"""All of them; the tests are cheap because memory costs what is written to it."""


class HugeArea:
    """A process with one hugetlb mapping; pages are numbered from its start."""

    def __init__(self, size: Size | None = None, n_pages: int = 2, *, cpus: int = 2, quirks=None, **mmap) -> None:
        self.size = size or Size("x86_64", 1 << 21)
        self.kernel = Kernel(self.size.arch, cpus=cpus, quirks=quirks)
        self.process: Process = self.kernel.spawn()
        # 32-bit formats have 3 GiB for a user, and the first page stays free.
        n_pages = min(n_pages, self.kernel.machine.task_bytes // self.size.n_bytes - 1)
        self.n_bytes = n_pages * self.size.n_bytes
        self.start = self.process.mmap(self.n_bytes, huge=self.size.name, **mmap)
        self.end = self.start + self.n_bytes

    def at(self, page: int, inside: int = 0) -> int:
        return self.start + page * self.size.n_bytes + inside
