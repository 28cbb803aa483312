"""RCU: a free waits for every reader that was there, and for no other."""

from pagewatch.model.rcu import Rcu


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
