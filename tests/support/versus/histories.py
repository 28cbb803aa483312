"""Random histories: a Hypothesis state machine whose rules are steps, carried out by both sides.

The model takes each step at once. The kernel gets the whole history at the end, in as few requests as possible;
then every outcome is compared. So the rules may look at the model's state, but draw the same steps whatever
the kernel does.
"""

from collections import Counter
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pagewatch.model import KernelBug, Quirks
from pagewatch.model.madvise import Advice
from support.versus.comparison import Difference, first_difference
from support.versus.live import Live
from support.versus.modelled import Modelled
from support.versus.outcomes import HUGE_PAGES, MAX_PROCESSES, N_PLACES, PAGE, SMALL, Arena, Outcome, Step

KINDS = st.sampled_from(["anon", "anon", "shared", "memfd", "memfd-private", "disk", "disk-private"])
HUGE_KINDS = st.sampled_from(["hugetlb", "hugetlb-private"])
FILES = st.sampled_from(["memfd", "disk"])
WHO = st.integers(0, MAX_PROCESSES - 1)
PLACES = st.integers(0, N_PLACES - 1)
LENGTHS = st.integers(1, 8)
HUGE_PARTS = st.sampled_from([(0, 6), (6, 6), (0, 12), (0, 16)])
"""The huge pages of the large arena, and all of it."""
PARTS = st.one_of(st.tuples(PLACES, LENGTHS), HUGE_PARTS)
"""First place and number of places."""
SLOTS = st.integers(0, 1)
PROTECTIONS = st.sampled_from([0, 1, 3, 3])
Part = tuple[int, int]
MAYMOVE, FIXED = 1, 2
MAX_COPIED = 16
"""Pages: filling them is slow in the model."""
ASYNC, SIGBUS, WP, UNPOPULATED = 1 << 15, 1 << 7, 1 << 0, 1 << 13
FEATURES = st.sampled_from([ASYNC, ASYNC, ASYNC | SIGBUS, SIGBUS | WP, SIGBUS | WP | UNPOPULATED])
"""Whoever is not asynchronous gets signals: nobody is there to answer messages."""
MREMAP_FLAGS = st.sampled_from([0, 1, 3, 3, 3, 7, 2])
BITS = st.sampled_from([1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100])
MASKS = st.lists(BITS, max_size=3).map(lambda bits: sum(set(bits)))
ADVICE = st.sampled_from(
    [
        *(Advice.DONTNEED, Advice.FREE, Advice.REMOVE, Advice.DONTFORK, Advice.DOFORK, Advice.WIPEONFORK),
        *(Advice.KEEPONFORK, Advice.POPULATE_READ, Advice.POPULATE_WRITE, Advice.GUARD_INSTALL),
        *(Advice.GUARD_REMOVE, Advice.DONTNEED, Advice.GUARD_INSTALL),
        *(Advice.HUGEPAGE, Advice.NOHUGEPAGE, Advice.COLLAPSE, Advice.COLLAPSE),
    ]
).map(int)


class Histories(RuleBasedStateMachine):
    """One history. ``live`` and ``quirks`` are set by whoever runs it."""

    live: ClassVar[Live]
    quirks: ClassVar[Quirks | None] = None
    arena: ClassVar[Arena] = SMALL
    counts: ClassVar[Counter[str]] = Counter()
    """Sequences, steps, and steps by name, of all histories since the start."""

    def __init__(self) -> None:
        super().__init__()
        self.modelled = Modelled(self.arena, self.quirks)
        self.script: list[Step] = []
        self.expected: list[Outcome] = []
        self.parents: list[int] = [0]
        """Who forked each living process; a process's number is its place."""
        self.serial = 0

    def step(self, name: str, who: int, *arguments: object) -> None:
        """Take one step."""
        who %= len(self.parents)
        if self.modelled.broken:
            return
        self.script.append((name, who, *arguments))
        self.expected.append(self.modelled.outcome(self.script[-1]))

    def value(self) -> int:
        """A value not stored before."""
        self.serial += 16
        return self.serial

    def teardown(self) -> None:
        """Look at everything once more, then let the kernel do the same, and compare."""
        for who in range(len(self.parents)):
            self.step("loads", who)
        if not self.modelled.broken:
            self.check()
        outcomes = self.live.run(self.arena, self.script)
        self.counts["sequences"] += 1
        self.counts["steps"] += len(self.script)
        self.counts.update(str(step[0]) for step in self.script)
        difference = first_difference(self.script, outcomes, self.expected)
        if difference is not None:
            self.found(difference)

    def check(self) -> None:
        """Whether the model's own invariants hold; if not, that counts as a difference, too."""
        try:
            self.modelled.check()
        except KernelBug as bug:
            self.expected[-1] = (("model", str(bug)), self.expected[-1][1])

    def found(self, difference: Difference) -> None:
        """Tell; whoever looks for many differences does not stop at the first.

        :raises AssertionError: always.
        """
        raise AssertionError(str(difference))

    @initialize(kind=KINDS, prot=PROTECTIONS, huge=st.booleans())
    def begin(self, kind: str, prot: int, *, huge: bool) -> None:
        self.step("mmap", 0, 0, self.arena.n_pages, kind, prot, 0)
        if huge and not kind.startswith("disk"):
            self.step("madvise", 0, 0, self.arena.n_pages, int(Advice.HUGEPAGE))

    @rule(who=WHO, part=PARTS, kind=KINDS, prot=PROTECTIONS, shift=st.integers(0, 1))
    def mmap(self, who: int, part: Part, kind: str, prot: int, shift: int) -> None:
        self.step("mmap", who, *self.arena.part(*part), kind, prot, shift)

    @precondition(lambda self: self.arena.pool)
    @rule(who=WHO, first=st.integers(0, 1), n=st.integers(1, 2), kind=HUGE_KINDS, prot=PROTECTIONS)
    def mmap_hugetlb(self, who: int, first: int, n: int, kind: str, prot: int) -> None:
        page = first * HUGE_PAGES
        self.step("mmap", who, page, min(n, 2 - first) * HUGE_PAGES, kind, prot, 0)

    @precondition(lambda self: self.arena.swap)
    @rule(who=WHO, part=PARTS)
    def pageout(self, who: int, part: Part) -> None:
        who, (page, n) = who % len(self.parents), self.arena.part(*part)
        if not self.modelled.maps_disk(who, page, n) and not self.modelled.maps_large_cached(who, page, n):
            self.step("madvise", who, page, n, int(Advice.PAGEOUT))

    @rule(who=WHO, part=PARTS)
    def munmap(self, who: int, part: Part) -> None:
        self.step("munmap", who, *self.arena.part(*part))

    @rule(who=WHO, part=PARTS, prot=PROTECTIONS)
    def mprotect(self, who: int, part: Part, prot: int) -> None:
        self.step("mprotect", who, *self.arena.part(*part), prot)

    @rule(who=WHO, part=PARTS, advice=ADVICE)
    def madvise(self, who: int, part: Part, advice: int) -> None:
        who, (page, n) = who % len(self.parents), self.arena.part(*part)
        if advice == Advice.GUARD_INSTALL and self.modelled.protects_file(who, page, n):
            return  # the kernel would never be done with it; see test_differences
        if advice == Advice.HUGEPAGE and self.modelled.maps_disk(who, page, n):
            return  # the kernel would read ahead, as far as it likes
        self.step("madvise", who, page, n, advice)

    @rule(who=WHO, part=HUGE_PARTS, populate=st.sampled_from([Advice.POPULATE_READ, Advice.POPULATE_WRITE, None]))
    def collapse(self, who: int, part: Part, populate: Advice | None) -> None:
        """What there is, or all of it."""
        for advice in (populate, Advice.COLLAPSE):
            if advice is not None:
                self.step("madvise", who, *self.arena.part(*part), int(advice))

    @rule(who=WHO, part=PARTS, new=LENGTHS, flags=MREMAP_FLAGS, to=PLACES, resize=st.booleans())
    def mremap(self, *, who: int, part: Part, new: int, flags: int, to: int, resize: bool) -> None:
        page, n = self.arena.part(*part)
        target = self.arena.places[to]
        if flags & FIXED:
            n_new = self.arena.part(to, new)[1] if resize else min(n, self.arena.n_pages - target)
        elif flags & MAYMOVE:
            n_new = n  # the kernel chooses a place of its own where it may: then nothing could be compared
        else:
            n_new = self.arena.part(part[0], new)[1]
        self.step("mremap", who, page, n, n_new, flags, target)

    @rule(who=WHO, place=PLACES)
    def store(self, who: int, place: int) -> None:
        self.step("store", who, self.arena.places[place], self.value())

    @rule(who=WHO, place=PLACES)
    def load(self, who: int, place: int) -> None:
        self.step("load", who, self.arena.places[place])

    @rule(who=WHO, place=PLACES, n=LENGTHS)
    def stores(self, who: int, place: int, n: int) -> None:
        for page in self.arena.places[place : place + n]:
            self.step("store", who, page, self.value())

    @rule(who=WHO, file=FILES, place=PLACES)
    def pwrite(self, who: int, file: str, place: int) -> None:
        self.step("pwrite", who, file, self.arena.places[place], self.value())

    @rule(who=WHO, file=FILES, place=PLACES)
    def pread(self, who: int, file: str, place: int) -> None:
        self.step("pread", who, file, self.arena.places[place])

    @rule(who=WHO, file=FILES, place=PLACES, odd=st.sampled_from([0, 0, 8, 24]))
    def truncate(self, who: int, file: str, place: int, odd: int) -> None:
        self.step("truncate", who, file, self.arena.places[place] * PAGE + odd)

    @rule(who=WHO, file=FILES, part=PARTS)
    def punch(self, who: int, file: str, part: Part) -> None:
        self.step("punch", who, file, *self.arena.part(*part))

    @rule(who=WHO, slot=SLOTS, features=FEATURES, part=PARTS, mode=st.sampled_from([2, 2, 2, 3, 1]))
    def watch(self, who: int, slot: int, features: int, part: Part, mode: int) -> None:
        """A fresh userfaultfd on a range."""
        self.step("uffd", who, slot, features)
        self.step("register", who, slot, *self.arena.part(*part), mode if features & SIGBUS else 2)

    def opened(self, who: int, slot: int) -> tuple[int, int] | None:
        """The descriptor meant by two numbers, if there is any."""
        living = [key for key in self.modelled.uffds if key[0] < len(self.parents)]
        return living[(who * 2 + slot) % len(living)] if living else None

    @precondition(lambda self: self.opened(0, 0))
    @rule(who=WHO, slot=SLOTS, part=PARTS, mode=st.sampled_from([2, 2, 3, 1, 0]))
    def register(self, who: int, slot: int, part: Part, mode: int) -> None:
        who, slot = self.opened(who, slot)
        if not self.modelled.uffds[who, slot].features & SIGBUS:
            mode &= 2  # whoever misses a page would wait for ever
        self.step("register", who, slot, *self.arena.part(*part), mode)

    @precondition(lambda self: self.opened(0, 0))
    @rule(who=WHO, slot=SLOTS, part=PARTS)
    def unregister(self, who: int, slot: int, part: Part) -> None:
        who, slot = self.opened(who, slot)
        self.step("unregister", who, slot, *self.arena.part(*part))

    @precondition(lambda self: self.opened(0, 0))
    @rule(who=WHO, slot=SLOTS)
    def close(self, who: int, slot: int) -> None:
        self.step("close", *self.opened(who, slot))

    @precondition(lambda self: self.opened(0, 0))
    @rule(who=WHO, slot=SLOTS, part=PARTS, mode=st.sampled_from([1, 1, 1, 0, 2]))
    def writeprotect(self, who: int, slot: int, part: Part, mode: int) -> None:
        who, slot = self.opened(who, slot)
        self.step("writeprotect", who, slot, *self.arena.part(*part), mode)

    @precondition(lambda self: self.opened(0, 0))
    @rule(who=WHO, slot=SLOTS, part=PARTS, mode=st.sampled_from([0, 2]))
    def copy(self, who: int, slot: int, part: Part, mode: int) -> None:
        who, slot = self.opened(who, slot)
        page, n = self.arena.part(*part)
        self.step("copy", who, slot, page, min(n, MAX_COPIED), self.value(), mode)

    @precondition(lambda self: self.opened(0, 0))
    @rule(who=WHO, slot=SLOTS, part=PARTS, name=st.sampled_from(["zeropage", "poison", "continue"]))
    def fill(self, who: int, slot: int, part: Part, name: str) -> None:
        who, slot = self.opened(who, slot)
        self.step(name, who, slot, *self.arena.part(*part), *([0] if name == "continue" else []))

    @rule(
        who=WHO,
        part=st.one_of(PARTS, st.tuples(PLACES, st.integers(0, N_PLACES))),
        flags=st.sampled_from([0, 0, 1, 1, 2, 3, 4]),
        masks=st.tuples(MASKS, MASKS, MASKS, st.one_of(MASKS, st.just(0x1FF))),
        max_pages=st.sampled_from([0, 0, 1, 2, 3, 5, 8, 512, 600]),
        room=st.sampled_from([20, 20, 0, 1, 2, 3]),
        vector=st.sampled_from([1, 1, 1, 0]),
    )
    def scan(
        self, *, who: int, part: Part, flags: int, masks: tuple[int, ...], max_pages: int, room: int, vector: int
    ) -> None:
        page, n = self.arena.part(*part)
        start, end = self.arena.at(page), self.arena.at(page + n)
        self.step("scan", who, start, end, flags, masks, (max_pages, room, vector))

    @rule(who=WHO, flags=st.sampled_from([0, 1]), masks=st.sampled_from([(0, 2, 0, 2), (0, 2, 0, 0x1FF)]))
    def collect(self, who: int, flags: int, masks: tuple[int, ...]) -> None:
        """What a tracker does."""
        self.step("scan", who, self.arena.base, self.arena.end, flags, masks, (0, 20, 1))

    @precondition(lambda self: len(self.parents) < MAX_PROCESSES)
    @rule(who=WHO)
    def fork(self, who: int) -> None:
        child = len(self.parents)
        self.step("fork", who, child)
        self.parents.append(who % len(self.parents))

    @precondition(lambda self: len(self.parents) > 1)
    @rule()
    def reap(self) -> None:
        child = len(self.parents) - 1
        self.step("reap", self.parents[-1], child)
        self.parents.pop()
