"""Shorthand for tests of the model: one process, pages by number."""

from pagewatch.model import Kernel, Process, Quirks
from pagewatch.model.scan.call import ScanArg, ScanReply
from pagewatch.model.uffd.context import Feature
from pagewatch.model.uffd.fd import Userfaultfd
from pagewatch.vocab.categories import ALL_CATEGORIES, Category
from pagewatch.vocab.query import Query

PAGE = 4096
ALL = Query(returned=ALL_CATEGORIES)
WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)
PRESENT = Query(mask=Category.PRESENT, returned=Category.PRESENT)


class Area:
    """One mapping of a process; pages are numbered from its start."""

    def __init__(self, n_pages: int, *, quirks: Quirks | None = None, process: Process | None = None, **mmap) -> None:
        self.kernel = Kernel(quirks=quirks, cpus=2)
        self.process = process or self.kernel.spawn()
        self.n_pages = n_pages
        self.start = self.process.mmap(n_pages * PAGE, **mmap)
        self.end = self.start + n_pages * PAGE

    def at(self, page: float) -> int:
        return self.start + int(page * PAGE)

    def store(self, *pages: int, cpu: int = 0) -> None:
        for page in pages:
            self.process.store(self.at(page), b"x", cpu=cpu)

    def load(self, page: int, n_bytes: int = 1) -> bytes:
        return self.process.load(self.at(page), n_bytes)

    def advise(self, advice: int, first: int, last: int) -> None:
        self.process.madvise(self.at(first), (last - first) * PAGE, advice)

    def armed(self, features: Feature = Feature.WP_ASYNC) -> Userfaultfd:
        """Register and protect all of it."""
        uffd = self.process.userfaultfd(features)
        uffd.register(self.start, self.n_pages * PAGE)
        uffd.writeprotect(self.start, self.n_pages * PAGE)
        return uffd

    def raw(
        self, query: Query = ALL, *, first: int = 0, last: int | None = None, vec_len: int = 100_000, **arg
    ) -> ScanReply:
        """The raw ioctl on pages [first, last)."""
        end = self.end if last is None else self.at(last)
        return self.process.pagemap_scan(ScanArg(start=self.at(first), end=end, query=query, vec_len=vec_len, **arg))

    def rows(self, query: Query = ALL, **arg) -> list[tuple[int, int, Category]]:
        """Regions as (first page, page behind the last, categories)."""
        return [
            ((start - self.start) // PAGE, (end - self.start) // PAGE, Category(bits))
            for start, end, bits in self.raw(query, **arg).regions
        ]

    def pages(self, query: Query = WRITTEN, **arg) -> list[int]:
        """Numbers of the pages that match."""
        return [page for first, last, _ in self.rows(query, **arg) for page in range(first, last)]

    def categories(self, page: int) -> Category:
        """All categories of one page."""
        return self.rows(first=page, last=page + 1)[0][2]
