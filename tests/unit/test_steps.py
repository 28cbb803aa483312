"""The hook: free when nobody schedules, honest about waits that cannot end."""

import timeit

import pytest

from pagewatch import steps
from pagewatch.steps import LOCK, READ, WouldBlock, access, scheduled, thread, wait


class Recorder:
    """A hook that only writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, steps.Kind, str, bool]] = []

    def access(self, key: object, kind: steps.Kind, label: str, ready: object) -> None:
        self.seen.append((key, kind, label, ready is not None))

    def thread(self) -> str:
        return "recorder"


def test_without_a_scheduler_nothing_happens() -> None:
    access("x", READ, "read x")
    assert thread() == 0


def test_a_hook_is_told_every_access_inside_its_block_only() -> None:
    hook = Recorder()
    with scheduled(hook):
        access("x", READ, "one")
        wait("l", LOCK, "two", lambda: False)
        assert thread() == "recorder"
    access("x", READ, "three")
    assert hook.seen == [("x", READ, "one", False), ("l", LOCK, "two", True)]


def test_blocks_nest_and_the_innermost_is_in_force() -> None:
    outer, inner = Recorder(), Recorder()
    with scheduled(outer):
        with scheduled(inner):
            access("x", READ, "in")
        access("x", READ, "out")
    assert [label for _, _, label, _ in inner.seen] == ["in"]
    assert [label for _, _, label, _ in outer.seen] == ["out"]


def test_a_wait_that_nobody_can_end_is_an_error_not_a_hang() -> None:
    wait("l", LOCK, "free", lambda: True)
    with pytest.raises(WouldBlock, match="take l: would sleep for ever") as caught:
        wait("l", LOCK, "take l", lambda: False)
    assert caught.value.key == "l"


def test_an_unscheduled_access_costs_less_than_200_ns() -> None:
    n = 100_000
    best = min(timeit.repeat(lambda: access("x", READ, "x"), number=n, repeat=5))
    assert best / n < 200e-9
