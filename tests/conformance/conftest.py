"""The kernel of this machine, for comparisons with the model."""

from collections.abc import Callable, Iterator

import pytest

from pagewatch.model import Quirks
from support.needs import skip_unless
from support.versus.comparison import compare
from support.versus.live import Live
from support.versus.outcomes import Arena, Outcome, Step
from support.versus.quirks import probed


@pytest.fixture(scope="module")
def kernel() -> Iterator[tuple[Live, Arena, Quirks]]:
    """Driver processes, the arena, and the quirks that the kernel showed; or the test is skipped."""
    skip_unless("uffd_wp_async", "pagemap_scan")
    with Live() as live:
        yield live, *probed(live)


@pytest.fixture
def quirks(kernel: tuple[Live, Arena, Quirks]) -> Quirks:
    """What this kernel does where kernels differ."""
    return kernel[2]


@pytest.fixture
def both(kernel: tuple[Live, Arena, Quirks]) -> Callable[..., list[Outcome]]:
    """``both(step, ...)``: the outcomes, on which the kernel and the model agree."""
    live, arena, quirks = kernel

    def run(*script: Step) -> list[Outcome]:
        return compare(live, arena, script, quirks)

    return run
