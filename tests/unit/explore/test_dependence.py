"""What commutes: decided by trying both orders, not by the table under test."""

import pytest
from hypothesis import given, settings

from pagewatch.explore.dependence import Access, conflict, overlap, reversible
from pagewatch.explore.engine import ScheduleMismatch, enumerate_all, replay
from pagewatch.steps import LOCK, LOCK_SHARED, READ, RMW, UNLOCK, UNLOCK_SHARED, WAIT, WRITE, Kind, Whole
from support.programs import PROGRAMS, Machine, Program, threads

ALL = list(Kind)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("other", ALL)
def test_conflict_is_symmetric_and_needs_the_same_object(kind: Kind, other: Kind) -> None:
    assert conflict(Access("x", kind), Access("x", other)) == conflict(Access("x", other), Access("x", kind))
    assert not conflict(Access("x", kind), Access("y", other))


@pytest.mark.parametrize(
    ("kind", "other"), [(READ, READ), (READ, WAIT), (LOCK_SHARED, LOCK_SHARED), (LOCK_SHARED, UNLOCK_SHARED)]
)
def test_who_only_looks_or_shares_commutes(kind: Kind, other: Kind) -> None:
    assert not conflict(Access("x", kind), Access("x", other))


@pytest.mark.parametrize(
    ("kind", "other"),
    [(READ, WRITE), (WAIT, WRITE), (RMW, RMW), (LOCK, UNLOCK_SHARED), (LOCK, LOCK_SHARED), (LOCK_SHARED, UNLOCK)],
)
def test_who_changes_what_the_other_looks_at_conflicts(kind: Kind, other: Kind) -> None:
    assert conflict(Access("x", kind), Access("x", other))


def test_a_whole_overlaps_its_parts_itself_and_nothing_else() -> None:
    whole = Whole(("table", 1))
    assert overlap(whole, ("table", 1, 5))
    assert overlap(("table", 1, 5), whole)
    assert overlap(whole, Whole(("table", 1)))
    for other in (("table", 2, 5), ("table", 1), ("table", 1, 5, 6), "table", Whole(("table",))):
        assert not overlap(whole, other)
        assert not overlap(other, whole)


def test_who_changes_a_whole_conflicts_with_who_looks_at_a_part() -> None:
    assert conflict(Access(Whole(("x",)), WRITE), Access(("x", 1), READ))
    assert not conflict(Access(Whole(("x",)), READ), Access(("x", 1), READ))


def test_a_waiting_acquisition_cannot_come_before_the_release_and_an_attempt_can() -> None:
    released = Access("m", UNLOCK)
    assert not reversible(released, Access("m", LOCK, waits=True))
    assert reversible(released, Access("m", LOCK, waits=False))
    assert reversible(Access("m", LOCK, waits=True), Access("m", LOCK, waits=True))


def test_who_waits_for_a_condition_of_a_lock_may_find_it_before_the_release() -> None:
    for released in (Access("m", UNLOCK), Access("m", UNLOCK_SHARED)):
        assert reversible(released, Access("m", WAIT, waits=True))
        assert reversible(released, Access("m", RMW, waits=True))


@settings(max_examples=25, deadline=None)
@given(PROGRAMS)
def test_steps_that_do_not_conflict_can_be_swapped_and_nobody_can_tell(program: Program) -> None:
    """Both orders of every adjacent pair of an execution, on fresh machines."""

    def outcome(schedule: tuple[int, ...]) -> object:
        machine = Machine()
        replay(lambda: threads(program, machine), schedule)
        return machine.outcome()

    run = next(enumerate_all(lambda: threads(program, Machine())))
    expected = outcome(run.schedule)
    for at, (one, other) in enumerate(zip(run.steps, run.steps[1:], strict=False)):
        if one.thread == other.thread or conflict(Access(one.key, one.kind), Access(other.key, other.kind)):
            continue
        schedule = [*run.schedule[:at], other.thread, one.thread, *run.schedule[at + 2 :]]
        try:
            assert outcome(tuple(schedule)) == expected
        except ScheduleMismatch as error:
            raise AssertionError(f"{one} and {other} cannot be swapped") from error
