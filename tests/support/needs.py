"""`requires("uffd_wp_async")`: run a test only where the kernel can, and say why not in the probe's own words.

Probes run when the first such test is about to, not when tests are collected. A misspelt name is an error at
once, and a probe that fails in a way it did not foresee fails the test rather than skipping it.
"""

import pytest

from pagewatch.linux.features import features, known

_MARKER = "requires"


def requires(*names: str) -> pytest.MarkDecorator:
    """A marker for tests, classes, or a module's ``pytestmark``; names are those of ``Features``."""
    return getattr(pytest.mark, _MARKER)(*map(known, names))


def skip_unless(*names: str) -> None:
    """The same inside of a test or fixture."""
    for name in names:
        support = features()[name]
        if support.error is not None:
            raise support.error
        if not support.ok:
            pytest.skip(f"needs {name}: {support.reason}" + (f" ({support.hint})" if support.hint else ""))


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known to --strict-markers."""
    config.addinivalue_line("markers", f"{_MARKER}(*features): skips with the probe's reason where one is missing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Probe before fixtures are set up."""
    for marker in item.iter_markers(_MARKER):
        skip_unless(*marker.args)
