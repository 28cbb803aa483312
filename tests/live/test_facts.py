"""Every script of docs/facts holds on this kernel."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from support.hugepages import hugetlb_pages
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

_FACTS = Path(__file__).parents[2] / "docs" / "facts"
_SCRIPTS = sorted(path.name for path in _FACTS.glob("*.py") if path.name not in ("raw.py", "common.py"))


@pytest.mark.parametrize("script", _SCRIPTS)
def test_fact_holds(script):
    with hugetlb_pages(1) if "hugetlb" in script else nullcontext():
        done = subprocess.run(
            [sys.executable, _FACTS / script], capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("yes  ") or not _claims(script)


def _claims(script):
    """Whether a script says yes or no; the others tell what they see."""
    return "from raw import" in (_FACTS / script).read_text()


def test_every_script_is_in_the_index():
    index = (_FACTS / "index.md").read_text()
    assert [name for name in _SCRIPTS if f"`{name}`" not in index] == []
