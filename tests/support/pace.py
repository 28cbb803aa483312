"""How fast this machine is, so that tests can ask less of an emulated one."""

import time
from functools import cache

import pytest

_STEPS = 300_000
_USUAL_S = 0.025


@cache
def slowness() -> float:
    """How many times slower than a usual machine; processor time, so load does not count. At least 1."""
    return max(1.0, min(_measured_s() for _ in range(3)) / _USUAL_S)


def fewer(times: int) -> int:
    """That many repetitions, or as many as take as long on this machine; never less than five."""
    return max(min(times, 5), int(times / slowness()))


def longer(milliseconds: int) -> int:
    """That long, or as long as gives this machine time for as much."""
    return int(milliseconds * slowness())


def skip_if_slow() -> None:
    """For statements about time."""
    if slowness() > 4:
        pytest.skip(f"speed means nothing on a machine that is {slowness():.0f} times slower than usual (emulated)")


def _measured_s() -> float:
    begun_s = time.process_time()
    value = 1
    for step in range(_STEPS):
        value = (value * 1103515245 + step) & 0xFFFFFFFF
    return time.process_time() - begun_s
