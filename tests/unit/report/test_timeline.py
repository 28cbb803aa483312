import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.report.timeline import columns_of, rounds_of


def test_a_round_ends_where_a_process_comes_up_again() -> None:
    assert rounds_of([1, 2, 1, 2, 3, 2, 2]).tolist() == [0, 0, 1, 1, 1, 2, 3]
    assert rounds_of([]).tolist() == []


@given(pids=st.lists(st.integers(1, 3), min_size=1, max_size=60), limit=st.integers(1, 20))
def test_columns_are_whole_rounds_of_even_numbers(pids: list[int], limit: int) -> None:
    rounds = rounds_of(pids)
    columns = columns_of(rounds, np.arange(1, len(pids) + 1) * 10, limit=limit)
    assert len(columns) == min(limit, rounds[-1] + 1)
    assert columns.rounds.sum() == rounds[-1] + 1
    assert columns.rounds.max() - columns.rounds.min() <= 1
    for number in set(rounds.tolist()):
        assert len(set(columns.of_epoch[rounds == number].tolist())) == 1
    assert columns.edges_ns[0] == 0
    assert (np.diff(columns.edges_ns) > 0).all()
    for epoch, column in enumerate(columns.of_epoch.tolist()):
        assert columns.edges_ns[column] < (epoch + 1) * 10 <= columns.edges_ns[column + 1]


def test_no_epochs_have_no_columns() -> None:
    columns = columns_of(np.empty(0, np.int64), np.empty(0, np.int64), limit=5)
    assert (len(columns), columns.edges_ns.tolist()) == (0, [0])
