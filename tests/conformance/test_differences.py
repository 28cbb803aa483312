"""Every difference between the kernel and the model that random histories found, as its shortest script.

``both`` runs a script on both and fails where they part; what follows says in numbers what they agree on.
The list with explanations is ``docs/conformance.md``.
"""

import errno

import pytest

from pagewatch.model import Kernel, KernelBug
from support.versus.live import DriverDied, Live

ASYNC, SYNC_SIGNAL = 1 << 15, 1 << 13 | 1 << 7 | 1
"""Features: asynchronous; synchronous with signals, which also protects what is not populated."""
MISSING, WP = 1, 2
READ, READ_WRITE = 1, 3
DONTNEED, WIPEONFORK, KEEPONFORK, GUARD_INSTALL = 4, 18, 19, 102
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
WPALLOWED, GUARD = 1, 1 << 8
SOFT_DIRTY_CATEGORY, SOFT_DIRTY = 1 << 7, 1
"""Of every page of a new area where that is compiled in: both sides say so, and it tells nothing of tables."""
EXCLUSIVE, POISON_MARKER, WP_MARKER, GUARD_MARKER = 1 << 1, 1 << 7, 1 << 2 | 1 << 7, 1 << 3 | 1 << 7
"""Bits 55 and up of pagemap words: present 1 << 8, swap 1 << 7, file 1 << 6, guard 1 << 3, wp 1 << 2."""
SIGSEGV_UNMAPPED, SIGBUS = (11, 1), (7, 2)


def mapped(kind="anon", prot=READ_WRITE):
    """All sixteen pages as one area; its files have fourteen."""
    return ("mmap", 0, 0, 16, kind, prot, 0)


def result(outcome):
    return outcome[0]


def tables(outcome):
    """Which of the two page tables exist: an empty entry reads as written, memory without a table does not."""
    middle = 0x10_4000_0000
    return tuple(
        any(start < half + 8 * 4096 and end > half for start, end in seen(outcome))
        for half in (middle - 8 * 4096, middle)
    )


def has_table(outcome, page):
    """Whether a page that nobody watches has a page table."""
    address = 0x10_4000_0000 + (page - 8) * 4096
    return any(start <= address < end for start, end in seen(outcome))


def seen(outcome):
    """Where a scan finds anything but that the area is new."""
    return [(start, end) for start, end, bits in outcome[1][0] if bits & ~SOFT_DIRTY_CATEGORY]


def words(outcome):
    return [word & ~SOFT_DIRTY for word in outcome[1][1]]


def areas(outcome):
    """Areas as (first page, page behind the last)."""
    base = 0x10_4000_0000 - 8 * 4096
    return [((start - base) // 4096, (end - base) // 4096) for start, end, _ in outcome[1][2]]


@pytest.fixture
def guards(quirks):
    """The quirks of a kernel that has guards; elsewhere the test is skipped."""
    if not quirks.guards:
        pytest.skip("this kernel answers EINVAL to MADV_GUARD_INSTALL, as it does to any advice that it does not know")
    return quirks


@pytest.fixture
def guards_in_files(guards):
    """As ``guards``, also in memory of files."""
    if not guards.guards_in_files:
        pytest.skip("this kernel has guards in anonymous memory only")
    return guards


class TestFaults:
    def test_a_file_fault_without_a_page_makes_no_page_table(self, both):
        *_, beyond = both(mapped("memfd"), ("load", 0, 15))
        assert result(beyond)[:3] == ("signal", *SIGBUS)
        assert tables(beyond) == (False, False)

    def test_a_fault_beyond_the_end_of_a_file_maps_cached_neighbours(self, both):
        *_, beyond = both(mapped("memfd"), ("pwrite", 0, "memfd", 8, 1), ("load", 0, 15))
        assert result(beyond)[:3] == ("signal", *SIGBUS)
        assert words(beyond)[8]

    def test_a_missing_fault_maps_cached_neighbours_before_it_is_refused(self, both):
        watch = (("uffd", 0, 0, ASYNC | 1 << 7), ("register", 0, 0, 12, 4, MISSING))
        *_, refused = both(mapped("memfd"), ("pwrite", 0, "memfd", 13, 1), *watch, ("load", 0, 12))
        assert result(refused)[:3] == ("signal", *SIGBUS)
        assert words(refused)[13]

    def test_a_fault_that_had_to_read_begins_again_and_maps_around(self, both):
        *_, read = both(mapped("disk", READ), ("pread", 0, "disk", 13), ("load", 0, 8))
        assert words(read)[8]
        assert words(read)[13]

    def test_the_tail_of_a_file_alone_gets_no_page_table(self, both, quirks):
        *_, beyond = both(mapped("disk"), ("pwrite", 0, "disk", 13, 1), ("load", 0, 15))
        assert bool(words(beyond)[13]) is not quirks.fault_around_needs_table_for_tail
        *_, beyond = both(mapped("disk"), ("store", 0, 8, 1), ("pwrite", 0, "disk", 13, 1), ("load", 0, 15))
        assert words(beyond)[13]

    def test_a_private_store_beyond_the_end_gives_the_area_a_root_all_the_same(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 6, 6, WP))
        *_, closed = both(mapped("memfd-private"), *watch, ("store", 0, 2, 1), ("store", 0, 14, 2), ("close", 0, 0))
        assert areas(closed) == [(0, 12), (12, 16)]

    def test_reading_a_hole_of_a_memfd_leaves_it_a_hole(self, both):
        *_, loaded = both(mapped("memfd-private"), ("pread", 0, "memfd", 7), ("load", 0, 4))
        assert not words(loaded)[7]


class TestFiles:
    @pytest.mark.parametrize("file", ["memfd", "disk"])
    def test_a_file_cut_to_the_size_it_has_keeps_its_last_page_mapped(self, both, file):
        cut = ("truncate", 0, file, 5 * 4096 + 8)
        *_, again = both(mapped(file), cut, ("store", 0, 5, 1), cut)
        assert words(again)[5]

    @pytest.mark.parametrize(
        "grow", [("truncate", 0, "disk", 9 * 4096), ("pwrite", 0, "disk", 8, 7)], ids=lambda x: x[0]
    )
    def test_what_lies_behind_the_end_of_a_file_on_disk_goes_when_the_file_grows(self, both, grow):
        *_, loaded = both(
            mapped("disk"), ("truncate", 0, "disk", 5 * 4096 + 8), ("store", 0, 5, 3), grow, ("load", 0, 5)
        )
        assert result(loaded) == ("ok", 0)

    def test_what_lies_behind_the_end_of_a_memfd_stays_when_it_grows(self, both):
        short = (("truncate", 0, "memfd", 5 * 4096 + 8), ("store", 0, 5, 3), ("truncate", 0, "memfd", 9 * 4096))
        *_, loaded = both(mapped("memfd"), *short, ("load", 0, 5))
        assert result(loaded) == ("ok", 3)

    def test_poison_outlives_a_hole_in_the_file(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 0, 8, WP), ("poison", 0, 0, 2, 1))
        *_, punched = both(mapped("memfd"), *watch, ("punch", 0, "memfd", 0, 8))
        assert words(punched)[2] == POISON_MARKER

    def test_a_scan_protects_poison_and_nothing_takes_it_back(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 0, 8, WP), ("poison", 0, 0, 2, 1))
        scan = ("scan", 0, 0x10_4000_0000 - 8 * 4096, 0x10_4000_0000, 1, (0, 2, 0, 2), (0, 20, 1))
        *_, closed = both(mapped("memfd"), *watch, scan, ("close", 0, 0))
        assert words(closed)[2] == POISON_MARKER | WP_MARKER


class TestAreas:
    def test_memory_once_promised_keeps_areas_apart(self, both):
        two = (("mprotect", 0, 1, 8, READ_WRITE), ("mprotect", 0, 7, 3, READ))
        *_, parted = both(mapped("disk-private", READ), *two)
        assert areas(parted) == [(0, 1), (1, 7), (7, 9), (9, 16)]

    def test_anonymous_memory_never_touched_gives_its_promise_back(self, both):
        two = (("mprotect", 0, 1, 8, READ_WRITE), ("mprotect", 0, 1, 8, READ))
        *_, whole = both(mapped("anon", READ), *two)
        assert areas(whole) == [(0, 16)]

    def test_advice_meets_areas_that_merged_meanwhile(self, both):
        first = (("madvise", 0, 2, 1, WIPEONFORK), ("mprotect", 0, 1, 1, 0))
        *_, whole = both(mapped("anon", READ), *first, ("madvise", 0, 0, 16, KEEPONFORK), ("mprotect", 0, 1, 1, READ))
        assert areas(whole) == [(0, 16)]

    def test_keeponfork_is_never_refused(self, both):
        *_, kept = both(mapped("disk"), ("madvise", 0, 3, 4, KEEPONFORK))
        assert result(kept) == ("ok", 0)

    def test_advice_that_changes_nothing_merges_nothing(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 6, 8, WP))
        *_, child = both(mapped("anon", READ), *watch, ("fork", 0, 1), ("madvise", 1, 3, 4, KEEPONFORK))
        assert areas(child) == [(0, 6), (6, 14), (14, 16)]

    def test_areas_of_a_fork_merge_with_no_other(self, both):
        split = (("store", 0, 0, 1), ("store", 0, 12, 2), ("mprotect", 0, 6, 2, READ), ("fork", 0, 1))
        *_, child = both(mapped(), *split, ("mprotect", 1, 6, 2, READ_WRITE))
        assert areas(child) == [(0, 6), (6, 8), (8, 16)]
        *_, parent = both(mapped(), *split, ("mprotect", 0, 6, 2, READ_WRITE))
        assert areas(parent) == [(0, 16)]


class TestMremap:
    def test_several_areas_move_and_keep_their_gaps(self, both, quirks):
        apart = (("munmap", 0, 1, 1), ("mprotect", 0, 3, 1, READ))
        *_, moved = both(mapped(), *apart, ("mremap", 0, 0, 4, 4, MAYMOVE | FIXED, 10))
        if not quirks.mremap_moves_several:
            assert result(moved) == ("errno", errno.EFAULT)
            assert areas(moved)[-1] == ((4, 16) if quirks.mremap_checks_first else (14, 16))
            return
        # What stands in the gap at the target stays there.
        assert areas(moved) == [(4, 13), (13, 14), (14, 16)]

    def test_watched_memory_moves_only_alone(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 1, 1, WP))
        *_, moved = both(mapped(), *watch, ("mremap", 0, 0, 3, 3, MAYMOVE | FIXED, 10))
        assert result(moved) == ("errno", errno.EFAULT)
        *_, moved = both(mapped(), *watch, ("mremap", 0, 1, 1, 1, MAYMOVE | FIXED, 10))
        assert result(moved)[0] == "ok"

    def test_a_refused_move_leaves_its_target_alone_where_checks_come_first(self, both, quirks):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 1, 1, WP))
        *_, refused = both(mapped(), *watch, ("mremap", 0, 0, 2, 3, MAYMOVE | FIXED, 10))
        assert result(refused) == ("errno", errno.EFAULT)
        at_the_end = [(2, 16)] if quirks.mremap_checks_first else [(2, 10), (13, 16)]
        assert areas(refused) == [(0, 1), (1, 2), *at_the_end]

    def test_a_move_next_to_watched_memory_takes_the_watch_off_both(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 0, 8, WP), ("writeprotect", 0, 0, 0, 8, 1))
        *_, moved = both(("mmap", 0, 0, 8, "anon", READ_WRITE, 0), *watch, ("mremap", 0, 0, 1, 1, MAYMOVE | FIXED, 8))
        assert areas(moved) == [(1, 9)]
        assert not any(bits & WPALLOWED for _, _, bits in moved[1][0])
        assert words(moved)[7] == WP_MARKER

    def test_what_a_move_cuts_off_may_span_areas(self, both):
        watch = (("uffd", 0, 1, ASYNC), ("register", 0, 1, 5, 2, WP))
        *_, moved = both(mapped("shared"), *watch, ("mremap", 0, 1, 5, 1, MAYMOVE | FIXED, 15))
        assert result(moved)[0] == "ok"
        assert areas(moved) == [(0, 1), (6, 7), (7, 15), (15, 16)]

    def test_a_move_onto_itself_is_refused_before_anything_is_looked_up(self, both, quirks):
        onto_itself = ("mremap", 0, 5, 8, 8, MAYMOVE | DONTUNMAP, 9)
        (refused,) = both(onto_itself)
        assert result(refused) == ("errno", errno.EINVAL if quirks.mremap_checks_first else errno.EFAULT)
        *_, refused = both(mapped(), onto_itself)
        assert result(refused) == ("errno", errno.EINVAL)

    def test_the_target_has_page_tables_where_the_source_had(self, both):
        *_, moved = both(mapped("disk-private"), ("store", 0, 8, 1), ("mremap", 0, 13, 3, 3, MAYMOVE | FIXED, 1))
        assert tables(moved) == (True, True)

    def test_what_dontunmap_leaves_is_still_promised_its_memory(self, both):
        left = ("mremap", 0, 0, 4, 4, MAYMOVE | FIXED | DONTUNMAP, 8)
        *_, whole = both(("mmap", 0, 0, 4, "anon", READ_WRITE, 0), left, ("mmap", 0, 4, 4, "anon", READ_WRITE, 0))
        assert areas(whole) == [(0, 12)]


class TestFork:
    def test_a_child_gets_a_page_table_for_an_empty_one(self, both):
        emptied = (("store", 0, 3, 1), ("madvise", 0, 3, 1, DONTNEED))
        *_, looked = both(mapped(), *emptied, ("fork", 0, 1), ("munmap", 1, 15, 1))
        assert tables(looked) == (True, False)

    def test_a_refused_copy_gives_fork_a_reason_to_copy_tables(self, both):
        refused = (("load", 0, 0), ("uffd", 0, 0, SYNC_SIGNAL), ("copy", 0, 0, 1, 2, 16, 0))
        *_, copied, forked = both(mapped("memfd-private"), *refused, ("fork", 0, 1))
        assert result(copied) == ("errno", errno.ENOENT)
        assert not words(forked)[0] & EXCLUSIVE

    @pytest.mark.parametrize("kind", ["anon", "memfd", "disk-private"])
    def test_guards_are_inherited(self, both, kind, request):
        request.getfixturevalue("guards" if kind == "anon" else "guards_in_files")
        guard = ("madvise", 0, 7, 2, GUARD_INSTALL)
        *_, child = both(mapped(kind), guard, ("fork", 0, 1), ("load", 1, 7))
        assert words(child)[7:9] == [GUARD_MARKER, GUARD_MARKER]

    def test_guards_in_file_memory_give_no_root(self, both, guards_in_files):
        watch = (("uffd", 0, 1, SYNC_SIGNAL), ("register", 0, 1, 13, 3, WP))
        guarded = (("store", 0, 0, 6), ("madvise", 0, 14, 2, GUARD_INSTALL))
        *_, closed = both(mapped("memfd-private"), *watch, *guarded, ("close", 0, 1))
        assert areas(closed) == ([(0, 16)] if guards_in_files.guards_mark_areas else [(0, 13), (13, 16)])


class TestScans:
    @pytest.mark.parametrize("place", range(4))
    def test_who_asks_for_a_category_that_a_kernel_does_not_know_is_refused(self, both, quirks, place):
        masks = tuple(GUARD if index == place else 0 for index in range(4))
        base = 0x10_4000_0000 - 8 * 4096
        *_, scanned = both(mapped(), ("scan", 0, base, base + 4096, 0, masks, (0, 1, 1)))
        assert (result(scanned)[1][0] == -errno.EINVAL) is not quirks.guard_category


class TestUserfaultfd:
    def test_registering_for_part_of_what_is_watched_changes_nothing(self, both):
        first = (("uffd", 0, 1, ASYNC | 1 << 7), ("register", 0, 1, 15, 1, MISSING | WP))
        *_, again = both(mapped("shared"), *first, ("register", 0, 1, 12, 4, WP))
        assert areas(again) == [(0, 12), (12, 15), (15, 16)]

    def test_files_on_disk_are_not_filled(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 7, 7, WP))
        *_, refused = both(mapped("disk-private"), *watch, ("copy", 0, 0, 8, 1, 16, WP))
        assert result(refused) == ("errno", errno.EINVAL)

    def test_a_refused_fill_has_made_page_tables(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 5, 6, WP))
        *_, refused = both(mapped("memfd"), *watch, ("continue", 0, 0, 6, 1, 0))
        assert result(refused) == ("errno", errno.EFAULT)
        assert has_table(refused, page=0)
        assert not has_table(refused, page=15)

    def test_anonymous_memory_has_no_page_cache_to_continue_from(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 5, 6, WP))
        *_, refused = both(mapped("anon"), *watch, ("continue", 0, 0, 6, 1, 0))
        assert result(refused) == ("errno", errno.EINVAL)
        assert not has_table(refused, page=0)

    @pytest.mark.parametrize(
        ("fill", "number"),
        [
            (("poison", 0, 0, 15, 1), errno.EFAULT),
            (("copy", 0, 0, 15, 1, 16, 0), errno.EFAULT),
            (("zeropage", 0, 0, 15, 1), errno.EFAULT),
            (("continue", 0, 0, 15, 1, 0), errno.EINVAL),
        ],
        ids=lambda value: value[0] if isinstance(value, tuple) else "",
    )
    @pytest.mark.parametrize("kind", ["memfd", "memfd-private"])
    def test_nothing_is_filled_beyond_the_end_of_a_file(self, both, kind, fill, number):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 12, 4, WP))
        *_, refused = both(mapped(kind), *watch, fill)
        assert result(refused) == ("errno", number)


class TestGuards:
    def test_a_kernel_without_guards_says_that_it_does_not_know_them(self, both, quirks):
        for kind, known in (("anon", quirks.guards), ("memfd", quirks.guards and quirks.guards_in_files)):
            *_, tried = both(mapped(kind), ("madvise", 0, 4, 1, GUARD_INSTALL))
            assert result(tried) == (("ok", 0) if known else ("errno", errno.EINVAL))

    @pytest.mark.usefixtures("guards_in_files")
    def test_guards_over_protected_file_memory_are_never_done(self, kernel):
        """The kernel zaps what is in the way and begins again, and zapping leaves the protection there.

        The model says so by an error; the real call is watched for a while, and ended with its process.
        """
        _, arena, quirks = kernel
        script = [
            mapped("memfd"),
            ("uffd", 0, 0, ASYNC),
            ("register", 0, 0, 0, 16, WP),
            ("writeprotect", 0, 0, 0, 16, 1),
        ]
        with Live() as alone:
            assert result(alone.run(arena, script)[-1])[0] == "ok"
            script.append(("madvise", 0, 4, 1, GUARD_INSTALL))
            if not quirks.guard_install_spins_on_markers:
                assert words(alone.run(arena, script)[-1])[4] == GUARD_MARKER
                return
            with pytest.raises(DriverDied, match="timed out"):
                alone.run(arena, script, timeout_s=1.0)
        with pytest.raises(KernelBug, match="starts over for ever"):
            self.install_in_the_model()

    @staticmethod
    def install_in_the_model():
        process = Kernel().spawn()
        start = process.mmap(4096, shared=True)
        uffd = process.userfaultfd(ASYNC)
        uffd.register(start, 4096)
        uffd.writeprotect(start, 4096)
        process.madvise(start, 4096, GUARD_INSTALL)

    @pytest.mark.usefixtures("guards")
    def test_guards_over_protected_anonymous_memory_replace_the_protection(self, both):
        watch = (("uffd", 0, 0, ASYNC), ("register", 0, 0, 0, 16, WP), ("writeprotect", 0, 0, 0, 16, 1))
        *_, guarded = both(mapped(), *watch, ("madvise", 0, 4, 1, GUARD_INSTALL))
        assert words(guarded)[3:5] == [WP_MARKER, GUARD_MARKER]
