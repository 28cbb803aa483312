"""Random histories on the kernel and on the model: a short run; ``make conformance`` is the long one."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from support.versus.comparison import Difference
from support.versus.histories import Histories
from support.versus.surroundings import ALL

_SETTINGS = settings(
    max_examples=60, stateful_step_count=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_random_histories_look_the_same_on_the_kernel_and_on_the_model(kernel, name):
    live, small, quirks = kernel
    arena = ALL[name].arena._replace(categories=small.categories)
    compared: Counter[str] = Counter()
    differences: list[Difference] = []

    class Bound(Histories):
        def found(self, difference: Difference) -> None:
            differences.append(difference)
            super().found(difference)

    Bound.live, Bound.arena, Bound.quirks, Bound.counts = live, arena, quirks, compared
    with ALL[name].prepared():
        try:
            run_state_machine_as_test(Bound, settings=_SETTINGS)
        finally:
            live.close()
    assert differences == []
    assert compared["sequences"] >= _SETTINGS.max_examples
    assert compared["steps"] > compared["sequences"]
