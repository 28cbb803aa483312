"""One execution per trace: published counts, and agreement with plain enumeration on random programs."""

from collections.abc import Callable
from math import factorial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagewatch.explore.engine import Execution, enumerate_all
from pagewatch.explore.traces import conflict, enumerate_traces
from pagewatch.steps import LOCK, LOCK_SHARED, READ, RMW, UNLOCK, WRITE, Kind, access, wait

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
            sum(1 for t, key, kind in seen if t == other and conflict((step.key, step.kind), (key, kind)))
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


STEPS = st.tuples(st.sampled_from("xy"), st.sampled_from([READ, WRITE, RMW, LOCK_SHARED]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(STEPS, max_size=3), min_size=2, max_size=3))
def test_the_traces_are_those_of_plain_enumeration_each_once(program: Program) -> None:
    traces = [trace_of(run) for run in enumerate_traces(build(program))]
    assert len(traces) == len(set(traces))
    assert set(traces) == {trace_of(run) for run in enumerate_all(build(program))}
