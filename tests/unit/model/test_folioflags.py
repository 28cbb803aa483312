"""Flags of folios: whoever looks at one or changes it says so, and so every order is tried."""

from collections.abc import Callable

import pytest

from pagewatch.explore.engine import enumerate_all
from pagewatch.explore.traces import enumerate_traces
from pagewatch.model import Kernel
from pagewatch.model.folioflags import (
    clear_dirty,
    clear_exclusive,
    is_dirty,
    is_exclusive,
    is_lazy_free,
    set_dirty,
    set_exclusive,
    set_lazy_free,
)
from pagewatch.model.memory import Folio
from pagewatch.steps import READ, access
from support.modelled import PAGE

Look = Callable[[Folio], bool]
Act = Callable[[Folio], None]


def dirty(folio: Folio) -> bool:
    return is_dirty(folio, "test: dirty?")


def lazy_free(folio: Folio) -> bool:
    return is_lazy_free(folio, "test: may be dropped?")


def exclusive(folio: Folio) -> bool:
    return is_exclusive(folio, 0, "test: exclusive?")


CHANGES: list[tuple[Look, Act, Act]] = [
    (dirty, lambda folio: set_dirty(folio, "test: dirty"), lambda folio: clear_dirty(folio, "test: clean")),
    (lazy_free, lambda folio: set_lazy_free(folio, "test: may be dropped"), lambda _: None),
    (exclusive, lambda folio: clear_exclusive(folio, 0, "test: shared"), lambda folio: set_exclusive(folio, 0, "own")),
]


def anonymous_folio() -> Folio:
    process = (kernel := Kernel()).spawn()
    process.store(process.mmap(PAGE), b"x")
    folio = next(folio for folio in kernel.machine.memory.folios.values() if folio.anon)
    folio.raw_dirty = False
    return folio


@pytest.mark.parametrize(("look", "change", "back"), CHANGES)
def test_the_traces_of_a_look_and_a_change_tell_what_all_interleavings_tell(look: Look, change: Act, back: Act) -> None:
    seen: list[tuple[str, bool]] = []
    folio = anonymous_folio()
    before = look(folio)

    def build() -> list[Callable[[], None]]:
        if look(folio) is not before:
            back(folio)
            folio.raw_lazy_free = False

        def changer() -> None:
            access(("test", 0), READ, "test: begin")
            change(folio)

        def looker() -> None:
            access(("test", 1), READ, "test: begin")
            seen.append(("looked", look(folio)))

        return [changer, looker]

    outcomes = []
    for enumerate_runs in (enumerate_all, enumerate_traces):
        seen.clear()
        assert not any(run.errors for run in enumerate_runs(build))
        outcomes.append(set(seen))
    assert outcomes[0] == outcomes[1] == {("looked", False), ("looked", True)}


def test_a_flag_that_is_set_already_is_only_looked_at_so_who_sets_it_twice_commutes() -> None:
    folio = anonymous_folio()
    set_dirty(folio, "test: dirty")
    set_lazy_free(folio, "test: may be dropped")

    def build() -> list[Callable[[], None]]:
        def again() -> None:
            set_dirty(folio, "test: dirty")
            set_lazy_free(folio, "test: may be dropped")

        return [again, again]

    assert len(list(enumerate_traces(build))) == 1


def test_different_flags_of_one_folio_are_different_objects() -> None:
    folio = anonymous_folio()

    def build() -> list[Callable[[], None]]:
        folio.raw_dirty = False
        folio.raw_exclusive = {0}
        return [lambda: set_dirty(folio, "test: dirty"), lambda: clear_exclusive(folio, 0, "test: shared")]

    assert len(list(enumerate_traces(build))) == 1


def test_pages_of_a_file_are_nobodys_own_and_that_needs_no_look() -> None:
    kernel = Kernel()
    folio = kernel.memfd(PAGE).bring_in(0)
    folio.raw_exclusive.add(0)
    assert not exclusive(folio)
