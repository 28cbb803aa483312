"""Random histories on the kernel and on the model: a short run; ``make conformance`` is the long one."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from support.versus.histories import Histories

_SETTINGS = settings(
    max_examples=150, stateful_step_count=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "large"])
def test_random_histories_look_the_same_on_the_kernel_and_on_the_model(kernel, large, size):
    live, small, quirks = kernel
    arena = large if size == "large" else small
    machine = type("Bound", (Histories,), {"live": live, "arena": arena, "quirks": quirks})
    run_state_machine_as_test(machine, settings=_SETTINGS)
