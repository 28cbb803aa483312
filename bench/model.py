"""How fast the modelled kernel is: an explorer runs thousands of small executions a second over it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from figures import Figure
from fresh import environment

from pagewatch.explore.engine import replay
from pagewatch.model import Kernel
from pagewatch.model.scan.call import ScanArg
from pagewatch.steps import READ, access
from pagewatch.vocab.categories import ALL_CATEGORIES, Category
from pagewatch.vocab.query import Query

_PAGES = 16_384
_PAGE_BYTES = 4096
_QUERIES = {
    "written (fast path)": Query(mask=Category.WRITTEN, returned=Category.WRITTEN),
    "all categories": Query(returned=ALL_CATEGORIES),
}
_IMPORT = "import time; t = time.perf_counter(); import pagewatch.model; print(time.perf_counter() - t)"


def best_seconds(action: Callable[[], object], *, rounds: int = 30) -> float:
    """The shortest of several runs: what the code costs when nothing else is in its way."""
    took = []
    for _ in range(rounds):
        started = perf_counter()
        action()
        took.append(perf_counter() - started)
    return min(took)


def measure(build: Path) -> list[Figure]:
    """The figures, each with the rate that the explorer counts on."""
    command = [sys.executable, "-c", _IMPORT]
    variables = environment(build, command)
    imports = [
        float(subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout)
        for _ in range(7)
    ]
    return [
        Figure("import pagewatch.model", min(imports), "s", 0.2),
        Figure("model: Kernel() with one process", _fresh_us(), "us", 200),
        *_scans(),
        Figure("model: store that hits the TLB", _stores(), "/s", 300_000, at_least=True),
        Figure("preemption point, nobody schedules", _idle_us(), "us", 0.2),
        Figure("preemption points, switched", _switches(), "/s", 200_000, at_least=True),
    ]


def _fresh_us() -> float:
    return best_seconds(lambda: [Kernel().spawn() for _ in range(100)]) / 100 * 1e6


def _scans() -> list[Figure]:
    process = Kernel().spawn()
    start = process.mmap(_PAGES * _PAGE_BYTES)
    end = start + _PAGES * _PAGE_BYTES
    for address in range(start, end, _PAGE_BYTES):
        process.store(address, b"x")
    figures = []
    for name, query in _QUERIES.items():
        arg = ScanArg(start=start, end=end, query=query, vec_len=8)
        seconds = best_seconds(lambda arg=arg: process.pagemap_scan(arg))
        figures.append(Figure(f"model: scan, {name}", _PAGES / seconds, "/s", 1_000_000, at_least=True))
    return figures


def _stores() -> float:
    process = Kernel().spawn()
    start = process.mmap(_PAGE_BYTES)
    data = bytes(8)

    def stores() -> None:
        for _ in range(10_000):
            process.store(start, data)

    return 10_000 / best_seconds(stores)


def _idle_us() -> float:
    def announce() -> None:
        for _ in range(10_000):
            access("x", READ, "x")

    return best_seconds(announce) / 10_000 * 1e6


def _switches() -> float:
    def busy() -> None:
        for _ in range(5_000):
            access("x", READ, "x")

    return 10_000 / best_seconds(lambda: replay(lambda: [busy, busy], ()))
