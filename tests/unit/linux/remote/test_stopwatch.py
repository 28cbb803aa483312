"""Parts of a stretch of time."""

import time

from pagewatch.linux.remote.stopwatch import Stopwatch


def test_parts_add_up_in_order() -> None:
    before_ns = time.monotonic_ns()
    watch = Stopwatch()
    time.sleep(0.01)
    watch.mark("first")
    watch.mark("second")
    after_ns = time.monotonic_ns()
    assert list(watch.phases_ns) == ["first", "second"]
    assert watch.phases_ns["first"] >= 10_000_000
    assert watch.phases_ns["second"] >= 0
    assert sum(watch.phases_ns.values()) <= after_ns - before_ns
