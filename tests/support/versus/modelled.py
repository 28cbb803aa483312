"""The model's side of a comparison: the driver's steps, carried out by :mod:`pagewatch.model`."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pagewatch.model import Kernel, Process, Quirks, Signal
from pagewatch.model.file import FileKind, FileMapping
from pagewatch.model.invariants import check
from pagewatch.model.scan.call import ScanArg
from pagewatch.model.uffd.context import Mode
from pagewatch.model.vma import VM_EXEC, VM_READ, VM_SHARED, VM_WRITE
from pagewatch.vocab.categories import ALL_CATEGORIES, Category
from pagewatch.vocab.errors import QueryError
from pagewatch.vocab.query import Query
from support.versus.outcomes import HUGE_PAGES, PAGE, WORD_AT, Arena, Observation, Outcome, Result, Row, Step

if TYPE_CHECKING:
    from pagewatch.model.uffd.fd import Userfaultfd

VECTOR = 1 << 20
"""Some address of a vector."""


class Modelled:
    """A fresh kernel of the model; methods named ``do_*`` are the steps, for process ``who``."""

    def __init__(self, arena: Arena, quirks: Quirks | None = None, *, arch: str = "x86_64") -> None:
        self.arena = arena
        self.kernel = Kernel(arch, quirks=quirks)
        self.kernel.machine.swap.on = arena.swap
        self.broken = False
        """Whether the model failed, with nothing that a kernel could answer."""
        self.processes: dict[int, Process] = {0: self.kernel.spawn()}
        self.uffds: dict[tuple[int, int], Userfaultfd] = {}
        n_bytes = arena.file_pages * PAGE
        self.files = {"memfd": self.kernel.memfd(n_bytes), "disk": self.kernel.disk_file(n_bytes)}
        if arena.pool:
            self.files["hugefile"] = self.kernel.memfd(HUGE_PAGES * PAGE, huge="2M")

    def outcome(self, step: Step) -> Outcome:
        """Carry out one step."""
        name, who, *arguments = step
        try:
            result = self._result(getattr(self, f"do_{name}"), who, *arguments)
        except Exception as bug:
            # No kernel answers so: it will be found as a difference.
            self.broken = True
            return ("model", _named(bug)), ((), (), ())
        return result, self.observe(int(str(who)))

    @staticmethod
    def _result(call: Callable[..., object], *arguments: object) -> Result:
        try:
            return "ok", call(*arguments)
        except OSError as error:
            return "errno", error.errno
        except Signal as signal:
            return "signal", int(signal.signo), signal.code, signal.address

    def valid(self, step: Step) -> bool:
        """Whether the processes and descriptors that a step names exist."""
        name, who, *arguments = step
        if name in ("register", "unregister", "writeprotect", "copy", "zeropage", "continue", "poison", "move"):
            return (who, arguments[0]) in self.uffds
        if name in ("fork", "reap"):
            return who in self.processes and (name == "fork") != (arguments[0] in self.processes)
        return who in self.processes

    def observe(self, who: int) -> Observation:
        """All that can be seen of a process's arena."""
        arena, process = self.arena, self.processes[who]
        query = Query(returned=Category(arena.categories))
        reply = process.pagemap_scan(ScanArg(start=arena.base, end=arena.end, query=query, vec_len=arena.n_pages + 1))
        words = [process.pagemap(arena.at(page), 1)[0] for page in arena.places]
        areas = tuple((vma.start, vma.end, _permissions(vma.flags)) for vma in process.areas)
        return reply.regions, tuple(word >> 55 for word in words), areas

    def protects_file(self, who: int, page: int, n_pages: int) -> bool:
        """Whether any of these pages is protected memory of a file."""
        process, at = self.processes[who], self.arena.at
        words = process.pagemap(at(page), n_pages)
        protected = {at(page + index) for index, word in enumerate(words) if word >> 57 & 1}
        return any(vma.start <= address < vma.end for vma in process.areas if vma.file for address in protected)

    def maps_disk(self, who: int, page: int, n_pages: int) -> bool:
        """Whether any of these pages is memory of a file on disk."""
        start, end = self.arena.at(page), self.arena.at(page + n_pages)
        areas = self.processes[who].mm.vmas.overlapping(start, end)
        return any(vma.file is not None and vma.file.kind is FileKind.DISK for vma in areas)

    def maps_large_cached(self, who: int, page: int, n_pages: int) -> bool:
        """Whether any of these pages is memory of a file with large folios: what comes back of them may be as large."""
        start, end = self.arena.at(page), self.arena.at(page + n_pages)
        files = (vma.file for vma in self.processes[who].mm.vmas.overlapping(start, end) if not vma.hugetlb)
        return any(folio.order for file in files if file is not None for folio in file.folios.values())

    def check(self) -> None:
        """Every invariant of the model."""
        check(self.kernel.machine)

    def do_load(self, who: int, page: int) -> int:
        return int.from_bytes(self.processes[who].load(self.arena.at(page) + WORD_AT, 8), "little")

    def do_loads(self, who: int) -> tuple[Result, ...]:
        """All places, one by one."""
        return tuple(self._result(self.do_load, who, page) for page in self.arena.places)

    def do_store(self, who: int, page: int, value: int) -> int:
        self.processes[who].store(self.arena.at(page) + WORD_AT, value.to_bytes(8, "little"))
        return 0

    # Areas.

    def do_mmap(self, who: int, page: int, n_pages: int, kind: str, prot: int, shift: int) -> int:
        file = self._file(kind)
        shared = kind in ("shared", "memfd", "disk", "hugetlb", "hugefile")
        return self.processes[who].mmap(
            n_pages * PAGE,
            prot=prot,
            shared=shared,
            file=file,
            offset=(page + shift) * PAGE if file else 0,
            at=self.arena.at(page),
            huge="2M" if kind.startswith("hugetlb") else None,
        )

    def do_munmap(self, who: int, page: int, n_pages: int) -> int:
        self.processes[who].munmap(self.arena.at(page), n_pages * PAGE)
        return 0

    def do_mprotect(self, who: int, page: int, n_pages: int, prot: int) -> int:
        self.processes[who].mprotect(self.arena.at(page), n_pages * PAGE, prot)
        return 0

    def do_madvise(self, who: int, page: int, n_pages: int, advice: int) -> int:
        self.processes[who].madvise(self.arena.at(page), n_pages * PAGE, advice)
        return 0

    def do_mremap(self, who: int, page: int, n_pages: int, n_new: int, flags: int, target: int) -> int:
        at = self.arena.at
        return self.processes[who].mremap(at(page), n_pages * PAGE, n_new * PAGE, flags=flags, target=at(target))

    # Files.

    def do_pwrite(self, _: int, file: str, page: int, value: int) -> int:
        return self.files[file].write(page * PAGE + WORD_AT, value.to_bytes(8, "little"))

    def do_pread(self, _: int, file: str, page: int) -> int:
        return int.from_bytes(self.files[file].read(page * PAGE + WORD_AT, 8), "little")

    def do_truncate(self, _: int, file: str, n_bytes: int) -> None:
        self.kernel.truncate(self.files[file], n_bytes)

    def do_punch(self, _: int, file: str, page: int, n_pages: int) -> int:
        self.kernel.punch_hole(self.files[file], page * PAGE, n_pages * PAGE)
        return 0

    # Userfaultfd.

    def do_uffd(self, who: int, slot: int, features: int) -> None:
        made = self.processes[who].userfaultfd(features)
        self.do_close(who, slot)
        self.uffds[who, slot] = made

    def do_close(self, who: int, slot: int) -> None:
        if (who, slot) in self.uffds:
            self.uffds.pop((who, slot)).close()

    def do_register(self, who: int, slot: int, page: int, n_pages: int, mode: int) -> None:
        self.uffds[who, slot].register(self.arena.at(page), n_pages * PAGE, Mode(mode))

    def do_unregister(self, who: int, slot: int, page: int, n_pages: int) -> None:
        self.uffds[who, slot].unregister(self.arena.at(page), n_pages * PAGE)

    def do_writeprotect(self, who: int, slot: int, page: int, n_pages: int, mode: int) -> None:
        start, length = self.arena.at(page), n_pages * PAGE
        self.uffds[who, slot].writeprotect(start, length, protect=bool(mode & 1), wake=not mode & 2)

    def do_copy(self, who: int, slot: int, page: int, n_pages: int, value: int, mode: int) -> int:
        data = bytearray(n_pages * PAGE)
        for index in range(n_pages):
            place = index * PAGE + WORD_AT
            data[place : place + 8] = (value + index).to_bytes(8, "little")
        return self.uffds[who, slot].copy(self.arena.at(page), bytes(data), protect=bool(mode & 2))

    def do_zeropage(self, who: int, slot: int, page: int, n_pages: int) -> int:
        return self.uffds[who, slot].zeropage(self.arena.at(page), n_pages * PAGE)

    def do_continue(self, who: int, slot: int, page: int, n_pages: int, mode: int) -> int:
        return self.uffds[who, slot].continue_(self.arena.at(page), n_pages * PAGE, protect=bool(mode & 2))

    def do_poison(self, who: int, slot: int, page: int, n_pages: int) -> int:
        return self.uffds[who, slot].poison(self.arena.at(page), n_pages * PAGE)

    def do_move(self, who: int, slot: int, to: int, page: int, n_pages: int, mode: int) -> int:
        target, source = self.arena.at(to), self.arena.at(page)
        return self.uffds[who, slot].move(target, source, n_pages * PAGE, holes=bool(mode & 2))

    # Scans.

    def do_scan(
        self, who: int, start: int, end: int, flags: int, masks: tuple[int, ...], limits: tuple[int, ...]
    ) -> tuple[int, int | None, tuple[Row, ...]]:
        max_pages, room, with_vector = limits
        try:
            query = Query(*(Category(mask) if not mask & ~int(ALL_CATEGORIES) else mask for mask in masks))
        except QueryError:
            return -22, None, ()  # the model takes queries whose masks are valid
        arg = ScanArg(
            start=start,
            end=end,
            query=query,
            flags=flags,
            vec=VECTOR if with_vector else 0,
            vec_len=room,
            max_pages=max_pages,
        )
        reply = self.processes[who].pagemap_scan(arg)
        return reply.result, reply.walk_end, reply.regions

    # Processes.

    def do_fork(self, who: int, child: int) -> None:
        self.processes[child] = self.processes[who].fork()

    def do_reap(self, _: int, child: int) -> None:
        for process, slot in [key for key in self.uffds if key[0] == child]:
            self.do_close(process, slot)
        self.processes.pop(child).exit()

    def _file(self, kind: str) -> FileMapping | None:
        return self.files.get(kind.partition("-")[0])


def _named(bug: Exception) -> str:
    last = traceback.extract_tb(bug.__traceback__)[-1]
    return f"{type(bug).__name__}: {bug} ({Path(last.filename).name}:{last.lineno}, {last.name})"


def _permissions(flags: int) -> str:
    letters = ((VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x"))
    return "".join(letter if flags & bit else "-" for bit, letter in letters) + ("s" if flags & VM_SHARED else "p")
