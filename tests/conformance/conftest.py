"""The kernel of this machine, for comparisons with the model."""

from collections.abc import Callable, Iterator

import pytest

from pagewatch.model import Quirks
from support.hugepages import khugepaged_asleep
from support.needs import skip_unless
from support.versus.comparison import compare
from support.versus.live import Live
from support.versus.outcomes import LARGE, Arena, Outcome, Step
from support.versus.quirks import probed


@pytest.fixture(scope="module")
def kernel() -> Iterator[tuple[Live, Arena, Quirks]]:
    """Driver processes, the arena, and the quirks that the kernel showed; or the test is skipped."""
    skip_unless("uffd_wp_async", "pagemap_scan")
    with khugepaged_asleep(), Live() as live:
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


@pytest.fixture(scope="module")
def large(kernel: tuple[Live, Arena, Quirks]) -> Arena:
    """The arena with room for huge pages."""
    return LARGE._replace(categories=kernel[1].categories)


@pytest.fixture
def both_large(kernel: tuple[Live, Arena, Quirks], large: Arena) -> Callable[..., list[Outcome]]:
    """As ``both``, in the large arena."""

    def run(*script: Step) -> list[Outcome]:
        return compare(kernel[0], large, script, kernel[2])

    return run
