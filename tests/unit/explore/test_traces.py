"""One execution per trace: published counts, and agreement with plain enumeration on random programs."""

from collections.abc import Callable, Iterator
from math import factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.explore.dependence import Access, conflict
from pagewatch.explore.engine import Build, Execution, enumerate_all
from pagewatch.explore.traces import enumerate_traces
from pagewatch.steps import LOCK, READ, RMW, UNLOCK, WRITE, Kind, access, wait
from support.programs import PROGRAMS, Machine, threads
from support.programs import Program as Mixed

Program = list[list[tuple[str, Kind]]]


def build(program: Program) -> Callable[[], list[Callable[[], None]]]:
    def body(steps: list[tuple[str, Kind]]) -> Callable[[], None]:
        def run() -> None:
            for key, kind in steps:
                access(key, kind, key)

        return run

    return lambda: [body(steps) for steps in program]


def trace_of(run: Execution) -> tuple[object, ...]:
    """A trace's identity: for every step, the steps of other threads it conflicts with that came before."""
    seen: list[tuple[int, object, Kind]] = []
    identity: dict[int, list[object]] = {}
    for step in run.steps:
        before = tuple(
            sum(1 for t, key, kind in seen if t == other and conflict(Access(step.key, step.kind), Access(key, kind)))
            for other in range(3)
        )
        identity.setdefault(step.thread, []).append(before)
        seen.append((step.thread, step.key, step.kind))
    return tuple(sorted((thread, tuple(steps)) for thread, steps in identity.items()))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_one_writer_and_n_readers_have_two_to_the_n_traces(n: int) -> None:
    program = [[("x", WRITE)], *[[("x", READ)]] * n]
    assert len(list(enumerate_traces(build(program)))) == 2**n


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_n_atomic_increments_have_n_factorial_traces(n: int) -> None:
    assert len(list(enumerate_traces(build([[("x", RMW)]] * n)))) == factorial(n)


@pytest.mark.parametrize("n", [2, 3])
def test_reads_then_writes_have_n_factorial_squared_traces(n: int) -> None:
    program = [[("x", READ), ("x", WRITE)]] * n
    assert len(list(enumerate_traces(build(program)))) == factorial(n) ** 2


def test_two_locks_in_opposite_order_have_three_traces_one_of_them_a_deadlock() -> None:
    def make() -> list[Callable[[], None]]:
        held: set[str] = set()

        def locker(first: str, second: str) -> Callable[[], None]:
            def run() -> None:
                for name in (first, second):
                    wait(name, LOCK, f"take {name}", lambda name=name: name not in held)
                    held.add(name)
                for name in (first, second):
                    access(name, UNLOCK, f"drop {name}")
                    held.discard(name)

            return run

        return [locker("a", "b"), locker("b", "a")]

    runs = list(enumerate_traces(make))
    assert [bool(run.deadlocked) for run in runs].count(True) == 1
    assert len(runs) == 3


def last_zero(n: int) -> Build:
    """One thread looks for the last zero of an array; n others copy each cell, plus one, into the next."""

    def make() -> list[Callable[[], None]]:
        cells = [0] * (n + 1)

        def look() -> None:
            at = n
            while access(at, READ, "look") or cells[at] != 0:
                at -= 1

        def copy(at: int) -> Callable[[], None]:
            def run() -> None:
                access(at - 1, READ, "copy from")
                value = cells[at - 1]
                access(at, WRITE, "copy to")
                cells[at] = value + 1

            return run

        return [look, *map(copy, range(1, n + 1))]

    return make


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_last_zero_has_the_published_number_of_traces(n: int) -> None:
    assert len(list(enumerate_traces(last_zero(n)))) == (n + 3) * 2**n // 4


def indexer(n: int) -> Build:
    """Threads that each put four entries into a hash table of 128 cells; from twelve on, some collide."""

    def make() -> list[Callable[[], None]]:
        table = [0] * 128

        def insert(me: int) -> Callable[[], None]:
            def run() -> None:
                for m in range(1, 5):
                    word = m * 11 + me
                    at = word * 7 % 128
                    while access(at, RMW, "claim") or table[at] != 0:
                        at = (at + 1) % 128
                    table[at] = word

            return run

        return [insert(me) for me in range(n)]

    return make


@pytest.mark.parametrize("n", [10, 11, 12])
def test_indexer_has_the_published_number_of_traces(n: int) -> None:
    assert len(list(enumerate_traces(indexer(n)))) == 8 ** max(0, n - 11)


def test_who_is_tried_costs_few_executions_that_are_cut() -> None:
    """Sleep sets alone cut thirty executions for each that they finish."""
    made = 0

    def make() -> list[Callable[[], None]]:
        nonlocal made
        made += 1
        return build([[(key, WRITE) for key in ("x", "only 0", "y")], [("x", READ)], [("y", READ)]])()

    complete = len(list(enumerate_traces(make)))
    assert complete == 4
    assert made == complete


def outcomes(program: Mixed, enumerate_runs: Callable[[Build], Iterator[Execution]]) -> list[object]:
    """What the program itself tells of every run, and who was stuck."""
    made: list[Machine] = []

    def make() -> list[Callable[[], None]]:
        made.append(Machine())
        return threads(program, made[-1])

    return [(made[-1].outcome(), tuple(step.thread for step in run.deadlocked)) for run in enumerate_runs(make)]


@settings(max_examples=60, deadline=None)
@given(PROGRAMS)
def test_every_outcome_and_every_deadlock_of_plain_enumeration_is_found(program: Mixed) -> None:
    assert set(outcomes(program, enumerate_traces)) == set(outcomes(program, enumerate_all))


@pytest.mark.parametrize(
    "program",
    [
        # Found when acquisitions raced with releases.
        ((("try shared", ()), ("wait", "x")), (("shared", ()), ("lock", ())), (("shared", ()), ("lock", ()))),
        # Found when who waits in vain did not race.
        (
            (("lock", (("exclusive", ()),)),),
            (("exclusive", (("lock", ()),)),),
        ),
        # An attempt that fails, or not.
        ((("lock", (("write", "x"),)),), (("try", (("write", "x"),)),)),
        # Found when whoever waited was taken to wait for a release.
        (
            (("passable lock", (("read", "x"), ("read", "y"))),),
            (("write", "x"), ("drain", ()), ("write", "y")),
        ),
        # Readers that wait for a writer who waits for a reader.
        ((("shared", (("wait", "x"),)),), (("exclusive", ()), ("write", "x")), (("shared", (("write", "x"),)),)),
    ],
)
def test_programs_that_a_wrong_search_gets_wrong(program: Mixed) -> None:
    assert set(outcomes(program, enumerate_traces)) == set(outcomes(program, enumerate_all))


STEPS = st.tuples(st.sampled_from("xy"), st.sampled_from([READ, WRITE, RMW]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(STEPS, max_size=3), min_size=2, max_size=3))
def test_the_traces_are_those_of_plain_enumeration_each_once(program: Program) -> None:
    traces = [trace_of(run) for run in enumerate_traces(build(program))]
    assert len(traces) == len(set(traces))
    assert set(traces) == {trace_of(run) for run in enumerate_all(build(program))}
