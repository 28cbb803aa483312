"""Random histories of two generations of processes: contents agree with a shadow copy, every invariant holds.

The shadow knows bytes and permissions only; it is kept by this test and never asks the model.
"""

import errno
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pagewatch.model import Kernel, KernelBug, Process, Quirks, Signal
from pagewatch.model.arch.format import WRITE
from pagewatch.model.invariants import check
from pagewatch.model.madvise import Advice
from pagewatch.model.mremap import MREMAP_FIXED, MREMAP_MAYMOVE
from pagewatch.model.uffd.context import Feature
from pagewatch.model.walk import seek
from support.refusals import errno_of

PAGE = 4096
ARENA = 0x10_0000_0000
N_PAGES = 12
PAGES = st.integers(0, N_PAGES - 1)


@dataclass
class ShadowPage:
    """One mapped page: where its bytes are, and what is allowed."""

    cell: list[bytes]
    shared: bool = False
    file_cell: list[bytes] | None = None
    writable: bool = True
    guarded: bool = False
    lazy: bool = False


@dataclass
class ShadowProcess:
    pages: dict[int, ShadowPage] = field(default_factory=dict)


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        # With that quirk a call of this machine can go on for ever; tests/conformance holds it to the kernel.
        self.kernel = Kernel(cpus=2, quirks=Quirks(soft_dirty=True, guard_install_spins_on_markers=False))
        self.processes: list[tuple[Process, ShadowProcess]] = [(self.kernel.spawn(), ShadowProcess())]
        self.serial = 0
        self.memfd = self.kernel.memfd(N_PAGES * PAGE)
        self.disk = self.kernel.disk_file(N_PAGES * PAGE)
        self.cells = {file: [[bytes(8)] for _ in range(N_PAGES)] for file in (self.memfd, self.disk)}

    def pick(self, who: int) -> tuple[Process, ShadowProcess]:
        return self.processes[who % len(self.processes)]

    @rule(who=PAGES, page=PAGES, n=st.integers(1, 4), kind=st.sampled_from(["anon", "shared", "memfd", "copy", "disk"]))
    def mmap(self, who: int, page: int, n: int, kind: str) -> None:
        process, shadow = self.pick(who)
        n = min(n, N_PAGES - page)
        file = {"memfd": self.memfd, "copy": self.memfd, "disk": self.disk}.get(kind)
        shared = kind in ("shared", "memfd", "disk")
        process.mmap(n * PAGE, shared=shared, file=file, offset=page * PAGE if file else 0, at=ARENA + page * PAGE)
        for index in range(page, page + n):
            if file is None:
                shadow.pages[index] = ShadowPage([bytes(8)], shared)
            else:
                cell = self.cells[file][index]
                shadow.pages[index] = ShadowPage(cell, shared, cell)

    @rule(who=PAGES, page=PAGES, n=st.integers(1, 4))
    def munmap(self, who: int, page: int, n: int) -> None:
        process, shadow = self.pick(who)
        process.munmap(ARENA + page * PAGE, n * PAGE)
        for index in range(page, page + n):
            shadow.pages.pop(index, None)

    @rule(who=PAGES, page=PAGES, cpu=st.integers(0, 1))
    def store(self, who: int, page: int, cpu: int) -> None:
        process, shadow = self.pick(who)
        self.serial += 1
        data = self.serial.to_bytes(8, "little")
        known = shadow.pages.get(page)
        if known is None or not known.writable or known.guarded:
            with pytest.raises(Signal) as caught:
                process.store(ARENA + page * PAGE + 16, data, cpu=cpu)
            not_allowed = known is not None and not known.writable
            assert caught.value.code == (2 if not_allowed else 1)
            return
        process.store(ARENA + page * PAGE + 16, data, cpu=cpu)
        if known.shared:
            known.cell[0] = data
        else:
            known.cell = [data]
        known.lazy = False

    @rule(who=PAGES, page=PAGES, cpu=st.integers(0, 1))
    def load(self, who: int, page: int, cpu: int) -> None:
        process, shadow = self.pick(who)
        known = shadow.pages.get(page)
        if known is None or known.guarded:
            with pytest.raises(Signal):
                process.load(ARENA + page * PAGE + 16, 8, cpu=cpu)
            return
        seen = process.load(ARENA + page * PAGE + 16, 8, cpu=cpu)
        if known.lazy and seen == bytes(8):
            known.cell = [bytes(8)]
        assert seen == known.cell[0]

    @rule(who=PAGES, page=PAGES, n=st.integers(1, 4))
    def dontneed(self, who: int, page: int, n: int) -> None:
        process, shadow = self.pick(who)
        self.advise(process, page, n, Advice.DONTNEED)
        for index in range(page, page + n):
            known = shadow.pages.get(index)
            if known is not None and not known.shared:
                known.cell = known.file_cell or [bytes(8)]

    @rule(who=PAGES, page=PAGES)
    def free(self, who: int, page: int) -> None:
        process, shadow = self.pick(who)
        known = shadow.pages.get(page)
        if known is not None and not known.shared and known.file_cell is None:
            process.madvise(ARENA + page * PAGE, PAGE, Advice.FREE)
            known.lazy = True

    @rule(who=PAGES, page=PAGES, n=st.integers(1, 4))
    def page_out(self, who: int, page: int, n: int) -> None:
        process, _ = self.pick(who)
        self.advise(process, page, n, Advice.PAGEOUT)

    @rule(who=PAGES, page=PAGES, n=st.integers(1, 3), install=st.booleans())
    def guard(self, *, who: int, page: int, n: int, install: bool) -> None:
        process, shadow = self.pick(who)
        self.advise(process, page, n, Advice.GUARD_INSTALL if install else Advice.GUARD_REMOVE)
        for index in range(page, page + n):
            known = shadow.pages.get(index)
            if known is not None:
                if install and not known.guarded and not known.shared:
                    known.cell = known.file_cell or [bytes(8)]
                known.guarded = install

    @rule(who=PAGES, page=PAGES, writable=st.booleans())
    def mprotect(self, *, who: int, page: int, writable: bool) -> None:
        process, shadow = self.pick(who)
        if page in shadow.pages:
            process.mprotect(ARENA + page * PAGE, PAGE, 3 if writable else 1)
            shadow.pages[page].writable = writable

    @rule(who=PAGES, source=PAGES, to=PAGES)
    def mremap(self, who: int, source: int, to: int) -> None:
        process, shadow = self.pick(who)
        if source not in shadow.pages or source == to:
            return
        flags = MREMAP_MAYMOVE | MREMAP_FIXED
        process.mremap(ARENA + source * PAGE, PAGE, PAGE, flags=flags, target=ARENA + to * PAGE)
        shadow.pages[to] = shadow.pages.pop(source)

    @precondition(lambda self: len(self.processes) < 3)
    @rule(who=PAGES)
    def fork(self, who: int) -> None:
        process, shadow = self.pick(who)
        copies = {
            index: ShadowPage(p.cell, p.shared, p.file_cell, p.writable, p.guarded, p.lazy)
            for index, p in shadow.pages.items()
        }
        # A guard on shared memory is inherited only with tables that fork has a reason to copy.
        for index, p in shadow.pages.items():
            if p.guarded and (p.shared or p.file_cell is not None):
                process.madvise(ARENA + index * PAGE, PAGE, Advice.GUARD_REMOVE)
                p.guarded = copies[index].guarded = False
        self.processes.append((process.fork(), ShadowProcess(copies)))

    @precondition(lambda self: len(self.processes) > 1)
    @rule()
    def exit(self) -> None:
        process, _ = self.processes.pop()
        process.exit()

    @rule(who=PAGES, text=st.sampled_from(["1", "2", "3", "4"]))
    def clear_refs(self, who: int, text: str) -> None:
        self.pick(who)[0].clear_refs(text)

    @rule(who=PAGES, page=PAGES, n=st.integers(1, 6))
    def arm(self, who: int, page: int, n: int) -> None:
        process, shadow = self.pick(who)
        n = min(n, N_PAGES - page)
        if not any(index in shadow.pages for index in range(page, page + n)):
            return
        if any(vma.uffd is not None for vma in process.areas):
            return
        uffd = process.userfaultfd(Feature.WP_ASYNC)
        uffd.register(ARENA + page * PAGE, n * PAGE)
        uffd.writeprotect(ARENA + page * PAGE, n * PAGE)

    @rule(who=PAGES)
    def disarm(self, who: int) -> None:
        from pagewatch.model.uffd.fd import Userfaultfd

        for vma in self.pick(who)[0].areas:
            if vma.uffd is not None:
                Userfaultfd(vma.uffd).close()

    @rule(page=PAGES, kind=st.sampled_from(["memfd", "disk"]))
    def write_file(self, page: int, kind: str) -> None:
        file = self.memfd if kind == "memfd" else self.disk
        self.serial += 1
        data = self.serial.to_bytes(8, "little")
        file.write(page * PAGE + 16, data)
        self.cells[file][page][0] = data

    @rule(page=PAGES)
    def punch(self, page: int) -> None:
        self.kernel.punch_hole(self.memfd, page * PAGE, PAGE)
        self.cells[self.memfd][page][0] = bytes(8)

    @rule()
    def same_through_read(self) -> None:
        for file, cells in self.cells.items():
            for page, cell in enumerate(cells):
                assert file.read(page * PAGE + 16, 8) == cell[0]

    @invariant()
    def holds(self) -> None:
        check(self.kernel.machine)

    def advise(self, process: Process, page: int, n: int, advice: Advice) -> None:
        # Gaps are allowed, and reported.
        assert errno_of(process.madvise, ARENA + page * PAGE, n * PAGE, advice) in (0, errno.ENOMEM)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_page_made_writable_behind_the_kernels_back_is_found() -> None:
    kernel = Kernel()
    process = kernel.spawn()
    start = process.mmap(PAGE)
    process.load(start, 1)
    spot = seek(process.mm, start)
    spot.table.entries[spot.slot] = spot.fmt.mkwrite(spot.entry)
    assert spot.fmt.flags(spot.table.entries[spot.slot]) & WRITE
    with pytest.raises(KernelBug, match="makes the zero page writable"):
        check(kernel.machine)


def test_a_lost_reference_is_found() -> None:
    kernel = Kernel()
    process = kernel.spawn()
    start = process.mmap(PAGE)
    process.store(start, b"x")
    next(f for f in kernel.machine.memory.folios.values() if f.anon).raw_references += 1
    with pytest.raises(KernelBug, match="2 references, 1 are accounted for"):
        check(kernel.machine)


def test_a_stale_translation_is_found() -> None:
    kernel = Kernel()
    process = kernel.spawn()
    start = process.mmap(PAGE)
    process.store(start, b"x")
    spot = seek(process.mm, start)
    spot.table.entries[spot.slot] = spot.fmt.wrprotect(spot.entry)
    with pytest.raises(KernelBug, match="as writable, which it is not"):
        check(kernel.machine)
