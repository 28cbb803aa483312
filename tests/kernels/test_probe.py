"""The probe, which shares no code with the package, and the package say the same of this kernel."""

import subprocess
import sys
from pathlib import Path

import pytest
from probe import MECHANISMS

import pagewatch

PROBE = Path(__file__).parents[2] / "kernels/probe.py"
pytestmark = pytest.mark.live


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, PROBE, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def offered() -> set[str]:
    lines = [line.split() for line in probe().stdout.splitlines()[1:]]
    assert [name for name, *_ in lines] == list(MECHANISMS)
    return {name for name, answer, *_ in lines if answer == "yes"}


@pytest.mark.parametrize(
    ("mechanism", "feature"),
    [
        ("uffd-wp", "uffd_wp_sync"),
        ("uffd-wp-async", "uffd_wp_async"),
        ("pagemap-scan", "pagemap_scan"),
        ("soft-dirty", "soft_dirty"),
    ],
)
def test_package_and_probe_agree(offered: set[str], mechanism: str, feature: str) -> None:
    if "userfaultfd" not in offered and mechanism.startswith("uffd"):
        pytest.skip("userfaultfd(2) is refused here, and the package knows ways that the probe does not")
    assert pagewatch.features()[feature].ok == (mechanism in offered)


def test_what_is_there_and_no_more_is_accepted(offered: set[str]) -> None:
    assert probe("--offers", *offered).returncode == 0


def test_more_or_less_than_is_there_fails(offered: set[str]) -> None:
    for mechanism in MECHANISMS:
        assert probe("--offers", *(offered ^ {mechanism})).returncode == 1
