"""A small address space in memory that offers the tracker's ports: enough for the tracker's own logic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pagewatch.trackers.base import Tracker
from pagewatch.trackers.scope import Everything, Ranges
from pagewatch.trackers.uffd_async import UffdAsync
from pagewatch.vocab.blindspots import BlindSpot
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import RangeNotArmed, RangeNotTrackable
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.query import Query
from pagewatch.vocab.regions import Regions
from pagewatch.vocab.scan import Scan

PAGE = 4096


@dataclass
class FakePage:
    """One mapped page."""

    shared: bool
    writable: bool = True
    registered: bool = False
    protected: bool = False
    content: bytearray | None = None


@dataclass
class FakeWorld:
    """Implements Scanner, WriteProtection, Layout, HugePages and Clock, and the tests' TrackedWorld."""

    page_size: int = PAGE
    pages: dict[int, FakePage] = field(default_factory=dict)
    refuse: set[int] = field(default_factory=set)
    pinned: tuple[BlindSpot, ...] = ()
    budget_bytes: int = 1 << 30
    collapsed: list[tuple[int, int]] = field(default_factory=list)
    next_address: int = 0x10000 * PAGE
    now: int = 0
    layout: tuple[Mapping, ...] = ()
    found: Regions = field(default_factory=Regions)
    """By the latest protecting scan."""
    interrupt: Callable[[], None] = lambda: None
    """Called when a protecting scan has done its work, before its result goes back."""
    mappings_read: int = 0

    # --- what a test does to it

    def map(self, n_pages: int, *, shared: bool = False, at: int | None = None) -> int:
        if at is None:
            at, self.next_address = self.next_address, self.next_address + (n_pages + 16) * PAGE
        for address in range(at, at + n_pages * PAGE, PAGE):
            self.pages[address] = FakePage(shared)
        return at

    def let_write(self, start: int, n_pages: int, *, writable: bool) -> None:
        for address in range(start, start + n_pages * PAGE, PAGE):
            self.pages[address].writable = writable

    def unmap(self, start: int, n_pages: int) -> None:
        for address in range(start, start + n_pages * PAGE, PAGE):
            self.pages.pop(address, None)

    def store(self, address: int, data: bytes) -> None:
        for offset, byte in enumerate(data):
            base, within = divmod(address + offset, PAGE)
            page = self.pages[base * PAGE]
            page.content = page.content or bytearray(PAGE)
            page.content[within] = byte
            page.protected = False

    def load(self, address: int, n_bytes: int) -> bytes:
        base, within = divmod(address, PAGE)
        content = self.pages[base * PAGE].content or bytes(PAGE)
        return bytes(content[within : within + n_bytes])

    def drop(self, start: int, n_pages: int) -> None:
        for address in range(start, start + n_pages * PAGE, PAGE):
            page = self.pages[address]
            page.content = None
            page.protected &= page.shared

    def track(self, ranges: Sequence[tuple[int, int]] | None, *, strict: bool = False, **options: object) -> Tracker:
        return UffdAsync(
            scanner=self,
            protection=self,
            layout=self,
            huge_pages=self,
            clock=self,
            scope=Everything() if ranges is None else Ranges(ranges),
            strict=strict,
            **options,
        )

    # --- ports

    def scan(
        self,
        start: int,
        end: int,
        query: Query,
        *,
        protect: bool = False,
        require_armed: bool = False,
        max_pages: int = 0,
        max_regions: int | None = None,
    ) -> Scan:
        assert max_pages == 0
        assert max_regions is None
        found = []
        for address in range(start, end, PAGE):
            page = self.pages.get(address)
            if page is None:
                continue
            if require_armed and not page.registered:
                unarmed = [a for a in range(start, end, PAGE) if a in self.pages and not self.pages[a].registered]
                raise RangeNotArmed(Regions.from_pages(unarmed), Scan(Regions(found), address, complete=False))
            if protect and not page.registered:
                continue
            categories = self._categories(page)
            if query.matches(categories):
                found.append((address, address + PAGE, categories & query.returned))
                if protect and page.registered and categories & Category.WRITTEN:
                    page.protected = True
        if protect:
            self.found = Regions(found)
            self.interrupt()
        return Scan(Regions(found), end, complete=True)

    def latest(self) -> Regions:
        return self.found

    def forget(self) -> None:
        self.found = Regions()

    def _categories(self, page: FakePage) -> Category:
        categories = Category(0)
        if page.registered:
            categories |= Category.WPALLOWED
        if not page.protected:
            categories |= Category.WRITTEN
        if page.content is not None:
            categories |= Category.PRESENT | (Category.FILE if page.shared else Category(0))
        elif page.protected:
            categories |= Category.SWAPPED
        return categories

    def register(self, start: int, end: int) -> None:
        if any(start <= address < end for address in self.refuse):
            raise RangeNotTrackable(start, end, "refused by the fake")
        for page in self._within(start, end):
            page.registered = True

    def protect(self, start: int, end: int) -> None:
        for page in self._within(start, end):
            page.protected = True

    def unregister(self, start: int, end: int) -> None:
        for page in self._within(start, end):
            page.registered = page.protected = False

    def mappings(self) -> Sequence[Mapping]:
        self.mappings_read += 1
        runs: list[Mapping] = []
        for address in sorted(self.pages):
            page = self.pages[address]
            permissions = f"r{'w' if page.writable else '-'}-{'s' if page.shared else 'p'}"
            if runs and runs[-1].end == address and runs[-1].permissions == permissions:
                runs[-1] = replace(runs[-1], end=address + PAGE)
            else:
                # Read-only memory is a view of a file: other private memory is wanted all the same.
                inode = int(page.shared or not page.writable)
                runs.append(Mapping(address, address + PAGE, permissions, inode=inode))
        if tuple(runs) != self.layout:
            self.layout = tuple(runs)
        return self.layout

    def pins(self) -> Sequence[BlindSpot]:
        return self.pinned

    def table_budget_bytes(self) -> int:
        return self.budget_bytes

    def huge_page_size(self) -> int:
        return 16 * PAGE

    def collapse(self, start: int, end: int) -> int:
        self.collapsed.append((start, end))
        return end - start

    def now_ns(self) -> int:
        self.now += 1
        return self.now

    def _within(self, start: int, end: int) -> list[FakePage]:
        return [self.pages[address] for address in range(start, end, PAGE) if address in self.pages]
