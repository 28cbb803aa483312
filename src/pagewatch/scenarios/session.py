"""Statements: one line of words does one thing to a modelled process.

Pages are written ``a[3]`` (page 3 of area ``a``), ``a[1:4]`` or ``a`` (all of it). ``HELP`` lists what
there is.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pagewatch.model import Kernel, Process, Quirks, Signal
from pagewatch.model.dirty_helpers import Bitmap
from pagewatch.model.file import FileMapping
from pagewatch.model.madvise import Advice
from pagewatch.model.memory import store_bytes
from pagewatch.model.mmu import translate
from pagewatch.model.tlb import flush_mm
from pagewatch.model.uffd.context import Feature
from pagewatch.model.vma import Vma
from pagewatch.model.walk import for_each_leaf, frame_of, seek
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import InvalidArgument, PagewatchError
from pagewatch.vocab.query import Query

if TYPE_CHECKING:
    from pagewatch.model.pins import Pin
    from pagewatch.model.uffd.fd import Userfaultfd

HELP = """\
map AREA PAGES [shared] [disk]    map memory; shared: a file in memory, disk: one that is on disk
fork                              go on with a child running beside
arm AREA                          register with an asynchronous userfaultfd, and protect
store PAGE TEXT [cpuN]            store, faulting as often as it takes
try-store PAGE TEXT [cpuN]        one attempt of the CPU, without the kernel's help
load PAGE                         read 8 bytes
protect PAGES                     UFFDIO_WRITEPROTECT
look PAGES                        PAGEMAP_SCAN: which pages were written
collect PAGES                     the same, and protect what it tells, in one step
wp AREA, clean AREA               the address-space helpers; clean keeps the content of what it records
flush                             every TLB of the process
advise PAGES ADVICE               madvise: dontneed, free, pageout, remove, collapse, ...
migrate PAGES                     to a device
pin PAGES, dma PAGE TEXT          pin for a device; write through the pin
fail PAGE                         the memory fails
show PAGES                        the page tables
expect PAGE TEXT                  the page begins with TEXT
expect-if-stored PAGE TEXT        the same, if the last try-store did not need the kernel
expect-seen PAGE                  a collect reported it, or the next one will
expect-kept PAGE                  its content was kept by clean, or the next clean will record it
expect-fault                      the last try-store needed the kernel"""

_PAGES = re.compile(r"(\w+)(?:\[(\d+)(?::(\d+))?\])?")
_WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)


class Broken(PagewatchError):
    """An expectation does not hold; the message says which."""


class Pages(NamedTuple):
    """Some pages of an area, as bytes [start, end)."""

    area: str
    first: int
    start: int
    end: int


class Session:
    """A kernel with one process, and what its statements have named and seen so far."""

    def __init__(self, *, arch: str = "x86_64", quirks: Quirks | None = None) -> None:
        """:param arch: a key of ``pagewatch.model.arch.ARCHES``."""
        self.kernel = Kernel(arch, cpus=2, quirks=quirks)
        self.process: Process = self.kernel.spawn()
        self.children: list[Process] = []
        self.page_bytes = self.kernel.machine.page_bytes
        self._areas: dict[str, tuple[int, int]] = {}
        self._bitmaps: dict[str, Bitmap] = {}
        self._kept: dict[tuple[str, int], bytes] = {}
        self._seen: set[int] = set()
        self._pins: dict[int, Pin] = {}
        self._uffd: Userfaultfd | None = None
        self._attempts: list[bool] = []

    def run(self, line: str, *, cpu: int = 0) -> str:
        """Run one statement; returns what it has to say, "" for nothing. An empty line or comment is none.

        :param cpu: where loads and stores run, unless the statement says so.
        :raises Broken: an expectation does not hold.
        :raises InvalidArgument: the statement cannot be understood.
        """
        words = shlex.split(line, comments=True)
        if not words:
            return ""
        verb, arguments = words[0], words[1:]
        if arguments and re.fullmatch(r"cpu[01]", arguments[-1]):
            cpu = int(arguments.pop()[3:])
        action = _VERBS.get(verb)
        if action is None:
            raise InvalidArgument(f"{verb!r} is no statement; there are: {', '.join(_VERBS)}")
        n_least, n_most, method = action
        if not n_least <= len(arguments) <= n_most:
            raise InvalidArgument(f"{line!r}: {verb} takes {n_least} to {n_most} words after it")
        try:
            return method(self, cpu, arguments)
        except Signal as signal:
            return f"{signal.signo.name}, code {signal.code}"
        except OSError as error:
            return str(error.strerror or error)

    def pages(self, text: str) -> Pages:
        """What ``a``, ``a[2]`` or ``a[1:3]`` stands for.

        :raises InvalidArgument: there is no such area, or no such page in it.
        """
        match = _PAGES.fullmatch(text)
        if match is None or match[1] not in self._areas:
            raise InvalidArgument(f"{text!r}: no such area; mapped are: {', '.join(self._areas) or 'none'}")
        start, n_pages = self._areas[match[1]]
        first = int(match[2] or 0)
        last = int(match[3]) if match[3] else first + 1 if match[2] else n_pages
        if not first < last <= n_pages:
            raise InvalidArgument(f"{text!r}: {match[1]} has pages 0 to {n_pages - 1}")
        return Pages(match[1], first, start + first * self.page_bytes, start + last * self.page_bytes)

    # Statements. Each takes the CPU and its words, and returns what it has to say.

    def _map(self, _: int, words: Sequence[str]) -> str:
        name, options = words[0], set(words[2:])
        if not words[1].isdecimal() or not options <= {"shared", "disk"}:
            raise InvalidArgument("map takes an area, a number of pages, and 'shared' or 'disk'")
        n_pages = int(words[1])
        n_bytes = n_pages * self.page_bytes
        file = self.kernel.disk_file(n_bytes) if "disk" in options else None
        start = self.process.mmap(n_bytes, shared=bool(options & {"shared", "disk"}), file=file)
        self._areas[name] = start, n_pages
        return f"{name}: {start:#x}-{start + n_bytes:#x}"

    def _fork(self, _: int, __: Sequence[str]) -> str:
        self.children.append(self.process.fork())
        return ""

    def _arm(self, _: int, words: Sequence[str]) -> str:
        pages = self.pages(words[0])
        self._uffd = self._uffd or self.process.userfaultfd(Feature.WP_ASYNC)
        self._uffd.register(pages.start, pages.end - pages.start)
        self._uffd.writeprotect(pages.start, pages.end - pages.start)
        return ""

    def _store(self, cpu: int, words: Sequence[str]) -> str:
        self.process.store(self.pages(words[0]).start, words[1].encode(), cpu=cpu)
        return ""

    def _try_store(self, cpu: int, words: Sequence[str]) -> str:
        self._attempts.append(_attempt(self.process, self.pages(words[0]).start, words[1].encode(), cpu))
        return "stored" if self._attempts[-1] else "would fault"

    def _load(self, cpu: int, words: Sequence[str]) -> str:
        data = self.process.load(self.pages(words[0]).start, 8, cpu=cpu)
        return repr(data.rstrip(b"\0").decode(errors="replace"))

    def _protect(self, _: int, words: Sequence[str]) -> str:
        pages = self.pages(words[0])
        if self._uffd is None:
            raise InvalidArgument("protect: arm an area first")
        self._uffd.writeprotect(pages.start, pages.end - pages.start)
        return ""

    def _look(self, _: int, words: Sequence[str]) -> str:
        return self._scan(self.pages(words[0]), protect=False)

    def _collect(self, _: int, words: Sequence[str]) -> str:
        return self._scan(self.pages(words[0]), protect=True)

    def _scan(self, pages: Pages, *, protect: bool) -> str:
        scan = self.process.scan(pages.start, pages.end, _WRITTEN, protect=protect)
        found = [int(address) for address in scan.regions.page_addresses()]
        self._seen.update(found)
        return "written: " + (", ".join(self._name(pages.area, address) for address in found) or "none")

    def _wp(self, _: int, words: Sequence[str]) -> str:
        vma = self._shared(words[0])
        n_pages = vma.end - vma.start >> self.kernel.machine.page_shift
        return f"{self.kernel.wp_shared_mapping_range(_file(vma), 0, n_pages)} made read-only"

    def _clean(self, _: int, words: Sequence[str]) -> str:
        vma, area = self._shared(words[0]), words[0]
        n_pages = vma.end - vma.start >> self.kernel.machine.page_shift
        bitmap = self._bitmaps.setdefault(area, Bitmap(n_pages))
        count, _start, _end = self.kernel.clean_record_shared_mapping_range(_file(vma), 0, n_pages, 0, bitmap, 0, 0)
        for page in bitmap.indexes():
            bitmap[page] = False
            self._kept[area, page] = _file(vma).read(page * self.page_bytes, 8)
        return f"{count} cleaned"

    def _flush(self, _: int, __: Sequence[str]) -> str:
        flush_mm(self.process.mm)
        return ""

    def _advise(self, _: int, words: Sequence[str]) -> str:
        pages, name = self.pages(words[0]), words[1].upper().replace("-", "_")
        if name not in Advice.__members__:
            raise InvalidArgument(f"advise: no {words[1]!r}; there are: {', '.join(Advice.__members__).lower()}")
        self.process.madvise(pages.start, pages.end - pages.start, Advice[name])
        return ""

    def _migrate(self, _: int, words: Sequence[str]) -> str:
        pages = self.pages(words[0])
        moved = self.process.migrate_to_device(pages.start, pages.end - pages.start)
        return "moved: " + (", ".join(self._name(pages.area, address) for address in moved) or "none")

    def _pin(self, cpu: int, words: Sequence[str]) -> str:
        pages = self.pages(words[0])
        for address in range(pages.start, pages.end, self.page_bytes):
            self._pins[address] = self.process.pin(address, 1, cpu=cpu)
        return ""

    def _dma(self, _: int, words: Sequence[str]) -> str:
        pin = self._pins.get(self.pages(words[0]).start)
        if pin is None:
            raise InvalidArgument(f"dma {words[0]}: pin it first")
        pin.write(0, words[1].encode())
        return ""

    def _fail(self, _: int, words: Sequence[str]) -> str:
        address = self.pages(words[0]).start
        spot = seek(self.process.mm, address)
        self.kernel.memory_failure(frame_of(spot.fmt, spot.entry, address))
        return self.kernel.log[-1]

    def _show(self, _: int, words: Sequence[str]) -> str:
        pages = self.pages(words[0])
        return self.process.picture(pages.start, pages.end)

    def _help(self, _: int, __: Sequence[str]) -> str:
        return HELP

    def _expect(self, cpu: int, words: Sequence[str]) -> str:
        wanted = words[1].encode()
        found = self.process.load(self.pages(words[0]).start, len(wanted), cpu=cpu)
        return _hold(found == wanted, f"{words[0]} holds {found!r}, not {wanted!r}")

    def _expect_if_stored(self, cpu: int, words: Sequence[str]) -> str:
        return self._expect(cpu, words) if self._attempts[-1:] == [True] else "nothing was stored"

    def _expect_seen(self, _: int, words: Sequence[str]) -> str:
        pages = self.pages(words[0])
        seen = pages.start in self._seen or bool(self.process.scan(pages.start, pages.end, _WRITTEN).regions)
        return _hold(seen, f"{words[0]} was written, no collect said so, and none will")

    def _expect_kept(self, _: int, words: Sequence[str]) -> str:
        pages = self.pages(words[0])
        vma = self._shared(pages.area)
        current = _file(vma).read(pages.first * self.page_bytes, 8)
        bitmap = self._bitmaps.get(pages.area)
        recorded = bitmap is not None and bitmap[pages.first]
        leaves = for_each_leaf(self.process.mm, pages.start, pages.end)
        dirty = any(leaf.spot.fmt.mkclean(leaf.spot.entry) != leaf.spot.entry for leaf in leaves)
        kept = self._kept.get((pages.area, pages.first)) == current
        return _hold(kept or recorded or dirty, f"{words[0]} was written, its content was not kept, and it is clean")

    def _expect_fault(self, _: int, __: Sequence[str]) -> str:
        return _hold(self._attempts[-1:] == [False], "the store went through an old translation")

    def _name(self, area: str, address: int) -> str:
        return f"{area}[{(address - self._areas[area][0]) // self.page_bytes}]"

    def _shared(self, area: str) -> Vma:
        vma = self.process.mm.vmas.at(self.pages(area).start)
        if vma is None or vma.file is None:
            raise InvalidArgument(f"{area} is not shared")
        return vma


def _file(vma: Vma) -> FileMapping:
    assert vma.file is not None  # noqa: S101 - Session._shared saw to it
    return vma.file


def _hold(holds: bool, otherwise: str) -> str:  # noqa: FBT001 - it is the very thing that is asked
    if not holds:
        raise Broken(otherwise)
    return "holds"


def _attempt(process: Process, address: int, data: bytes, cpu: int) -> bool:
    """One store instruction; False where it would fault."""
    mm, machine = process.mm, process.mm.machine
    vpn, inside = divmod(address, machine.page_bytes)
    core = machine.cpus[cpu]
    with core.interrupts:
        found = core.lookup(mm.id, vpn)
        if found is None or not found.writable or not found.dirty:
            found = translate(mm, core, vpn, writing=True)
        if found is None:
            return False
        folio = machine.memory.folio(found.pfn)
        store_bytes(folio, found.pfn - folio.pfn, inside, data, "store")
        return True


_Statement = Callable[[Session, int, Sequence[str]], str]

_VERBS: dict[str, tuple[int, int, _Statement]] = {
    "map": (2, 4, Session._map),
    "fork": (0, 0, Session._fork),
    "arm": (1, 1, Session._arm),
    "store": (2, 2, Session._store),
    "try-store": (2, 2, Session._try_store),
    "load": (1, 1, Session._load),
    "protect": (1, 1, Session._protect),
    "look": (1, 1, Session._look),
    "collect": (1, 1, Session._collect),
    "wp": (1, 1, Session._wp),
    "clean": (1, 1, Session._clean),
    "flush": (0, 0, Session._flush),
    "advise": (2, 2, Session._advise),
    "migrate": (1, 1, Session._migrate),
    "pin": (1, 1, Session._pin),
    "dma": (2, 2, Session._dma),
    "fail": (1, 1, Session._fail),
    "show": (1, 1, Session._show),
    "help": (0, 0, Session._help),
    "expect": (2, 2, Session._expect),
    "expect-if-stored": (2, 2, Session._expect_if_stored),
    "expect-seen": (1, 1, Session._expect_seen),
    "expect-kept": (1, 1, Session._expect_kept),
    "expect-fault": (0, 0, Session._expect_fault),
}
"""Each statement: how few and how many words follow it, and what it does."""
