"""How epochs become columns of time."""

from dataclasses import dataclass

import numpy as np

from pagewatch.report.intervals import I64


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of a timeline, and the one of each epoch."""

    edges_ns: I64
    """One more than there are columns; the first is 0."""
    rounds: I64
    """Rounds in each column."""
    of_epoch: I64
    """The column of each epoch, in recording order; ascending."""

    def __len__(self) -> int:
        return len(self.rounds)


def rounds_of(pids: list[int]) -> I64:
    """The round of each epoch, in recording order: a round ends where a process comes up again."""
    rounds = np.empty(len(pids), np.int64)
    seen: set[int] = set()
    current = 0
    for index, pid in enumerate(pids):
        if pid in seen:
            current += 1
            seen.clear()
        seen.add(pid)
        rounds[index] = current
    return rounds


def columns_of(rounds: I64, ended_ns: I64, *, limit: int) -> Columns:
    """At most ``limit`` columns, each of equally many whole rounds (give or take one).

    :param rounds: the round of each epoch, ascending; ``ended_ns``: when its collect was done.
    """
    if not len(rounds):
        return Columns(np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
    n_rounds = int(rounds[-1]) + 1
    n_columns = min(limit, n_rounds)
    column_of_round = np.arange(n_rounds) * n_columns // n_rounds
    of_epoch = column_of_round[rounds]
    first = np.flatnonzero(np.append(True, of_epoch[1:] != of_epoch[:-1]))
    # A recording may be wrong about its times, but a column needs a width to be drawn.
    ends = np.maximum(np.maximum.accumulate(np.maximum.reduceat(ended_ns, first)), 1)
    return Columns(np.append(0, ends), np.bincount(column_of_round, minlength=n_columns), of_epoch)
