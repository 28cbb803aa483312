"""A short soak, and proof that its judge would see a loss. ``make soak`` runs it for minutes."""

import shutil

import pytest
from soak import Collect, Soaked, soak

from pagewatch import Query, Regions
from support.needs import requires

pytestmark = [
    requires("uffd_wp_async", "pagemap_scan", "attach"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: apt-get install gcc"),
]


def test_no_write_is_lost_or_invented_while_the_memory_changes(tmp_path):
    verdict = soak(seconds=5, build=tmp_path)
    assert verdict.writes > 10_000
    assert verdict.epochs > 20
    assert (verdict.lost, verdict.false, verdict.corrupt) == (0, 0, 0), verdict


def _in_two_calls() -> Collect:
    """What a tracker must not do: look first, and re-arm everything afterwards."""
    written = Query.where("written")

    def collect(one: Soaked) -> Regions:
        seen = one.writer.process.scan(*one.area, written).regions
        one.writer.process.scan(*one.area, written, protect=True)
        return seen

    return collect


def test_reading_and_rearming_in_two_calls_loses_writes_and_the_judge_sees_it(tmp_path):
    verdict = soak(seconds=3, build=tmp_path, collect=_in_two_calls())
    assert verdict.lost > 0


def test_reporting_everything_is_seen_as_false(tmp_path):
    verdict = soak(seconds=1, build=tmp_path, collect=lambda one: Regions([one.area]))
    assert verdict.false > 0
    assert verdict.lost == 0
