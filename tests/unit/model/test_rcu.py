"""RCU: a free waits for every reader that was there, and for no other."""

from collections.abc import Callable

from pagewatch.explore.traces import enumerate_traces
from pagewatch.model.rcu import Rcu
from pagewatch.steps import READ, access, thread


def test_without_readers_it_is_freed_at_once() -> None:
    rcu, freed = Rcu(), []
    rcu.call(lambda: freed.append(1))
    assert freed == [1]


def test_a_free_waits_for_the_readers_that_were_there() -> None:
    rcu, freed = Rcu(), []
    with rcu:
        rcu.call(lambda: freed.append("first"))
        with rcu:
            assert freed == []
        assert freed == []
    assert freed == ["first"]


def test_of_readers_that_leave_side_by_side_each_may_be_the_one_who_frees() -> None:
    who: list[object] = []

    def build() -> list[Callable[[], None]]:
        rcu = Rcu()

        def read() -> None:
            with rcu:
                access("inside", READ, "inside")

        return [read, read, lambda: rcu.call(lambda: who.append(thread()))]

    assert not any(run.errors for run in enumerate_traces(build))
    assert set(who) == {0, 1, 2}
