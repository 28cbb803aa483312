"""The long run: random histories on the kernel of this machine and on the model, and how many came out alike.

    PYTHONPATH=tests python -m conformance.run --sequences 20000

Goes on after a difference, shows each once in its shortest form, and exits with 1 if there was any.
SIGTERM ends it early.
"""

import argparse
import signal
import sys
import time
from collections import Counter
from itertools import cycle
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from support.hugepages import khugepaged_asleep
from support.versus.comparison import Difference, difference_of, shrunk
from support.versus.histories import Histories
from support.versus.live import Live
from support.versus.quirks import probed
from support.versus.surroundings import ALL, Surroundings

_CHUNK = 250
"""Sequences: Hypothesis remembers what it has tried; now and then it may forget. Surroundings take turns by chunks."""
_CHUNK_ALONE = 100
"""Where others have to wait for the machine."""
_PAUSE_S = 0.2
"""Then it is their turn."""
_REPEATS = 3


class Collecting(Histories):
    """Histories that gather differences instead of failing."""

    differences: ClassVar[list[Difference]] = []

    def found(self, difference: Difference) -> None:
        """Keep it for later."""
        self.differences.append(difference)


def main() -> int:
    """Run, print counts, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=20, help="rules per sequence")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--stop-after", type=int, default=10, help="distinct differences")
    options = parser.parse_args()
    counts = Histories.counts
    tally = Tally(options.stop_after)
    began = time.monotonic()
    where: Counter[str] = Counter()
    with khugepaged_asleep(), Live() as live:
        small, quirks = probed(live)
        Collecting.live, Collecting.quirks = live, quirks
        turns = cycle(_possible())
        signal.signal(signal.SIGTERM, lambda *_: tally.end())
        while (done := counts["sequences"]) < options.sequences and len(tally.shown) < tally.stop_after:
            turn = next(turns)
            Collecting.arena = turn.arena._replace(categories=small.categories)
            size = _CHUNK_ALONE if turn.changes_machine else _CHUNK
            with turn.prepared():
                _run_chunk(options.seed + done, min(size, options.sequences - done), options.steps)
                tally.take(Collecting.differences)
                live.close()
            where[turn.name] += counts["sequences"] - done
            rate = counts["sequences"] / (time.monotonic() - began) * 60
            sys.stderr.write(f"{counts['sequences']} sequences, {rate:.0f} a minute\n")
            time.sleep(_PAUSE_S)
    names = ", ".join(f"{n} {name}" for name, n in counts.most_common() if name not in ("sequences", "steps"))
    sys.stdout.write(
        f"{counts['sequences']} sequences, {counts['steps']} steps, {len(tally.shown)} differences, "
        f"{tally.n_unsteady} not seen again (seed {options.seed}, {time.monotonic() - began:.0f} s)\n{names}\n"
        + "; ".join(f"{n} in {name}" for name, n in where.items())
        + "\n"
    )
    return 1 if tally.shown else 0


class Tally:
    """Differences by the shape of their shortest script."""

    def __init__(self, stop_after: int) -> None:
        """:param stop_after: distinct differences."""
        self.stop_after = stop_after
        self.shown: set[tuple[object, ...]] = set()
        self.n_unsteady = 0
        """Those that running the script again did not show: something else moved pages meanwhile."""

    def end(self) -> None:
        """Stop after this chunk: what was changed on the machine is put back, and counts are printed."""
        self.stop_after = 0

    def take(self, differences: list[Difference]) -> None:
        """Count differences, and show what is new."""
        live, arena, quirks = Collecting.live, Collecting.arena, Collecting.quirks
        for difference in differences:
            again = [difference_of(live, arena, difference.script, quirks) for _ in range(_REPEATS)]
            if None in again:
                self.n_unsteady += 1
                sys.stdout.write(f"not seen again: {difference}\n\n")
                continue
            small = shrunk(live, arena, difference, quirks)
            shape = (*(step[0] for step in small.script), small.kernel[0][:2])
            if shape not in self.shown:
                self.shown.add(shape)
                sys.stdout.write(f"{small}\n\n")
        differences.clear()


def _possible() -> list[Surroundings]:
    """Those that this machine can offer; what it cannot is said."""
    found = []
    for each in ALL.values():
        try:
            with each.prepared():
                found.append(each)
        except pytest.skip.Exception as reason:
            sys.stderr.write(f"not in {each.name}: {reason}\n")
    return found


def _run_chunk(number: int, n_sequences: int, n_steps: int) -> None:
    run_state_machine_as_test(
        seed(number)(Collecting),
        settings=settings(
            max_examples=n_sequences,
            stateful_step_count=n_steps,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
