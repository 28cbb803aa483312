"""Random histories on the kernel and on the model: a short run; ``make conformance`` is the long one."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from support.versus.histories import Histories

pytestmark = pytest.mark.histories

_SETTINGS = settings(
    max_examples=400, stateful_step_count=20, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
def test_random_histories_look_the_same_on_the_kernel_and_on_the_model(kernel):
    live, arena, quirks = kernel
    machine = type("Bound", (Histories,), {"live": live, "arena": arena, "quirks": quirks})
    run_state_machine_as_test(machine, settings=_SETTINGS)
