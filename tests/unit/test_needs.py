import dataclasses

import pytest

from pagewatch.linux.features import CATALOGUE, Features
from pagewatch.linux.probes.support import Support
from pagewatch.vocab.errors import InvalidArgument
from support import needs

GOOD = Features(**{name: Support.yes() for name in CATALOGUE})


def answer(monkeypatch: pytest.MonkeyPatch, **answers: Support) -> None:
    monkeypatch.setattr(needs, "features", lambda: dataclasses.replace(GOOD, **answers))


def reason_to_skip(*names: str) -> str | None:
    try:
        needs.skip_unless(*names)
    except pytest.skip.Exception as skipped:
        return skipped.msg
    return None


def test_what_is_there_lets_the_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, kvm=Support.no("none here"))
    assert reason_to_skip("thp", "shmem") is None


def test_what_is_missing_skips_with_reason_and_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, kvm=Support.no("none here", "load a module"))
    assert reason_to_skip("thp", "kvm") == "needs kvm: none here (load a module)"
    assert reason_to_skip("thp", "shmem", "kvm") == reason_to_skip("kvm")


def test_a_broken_probe_fails_the_test_instead_of_skipping_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, kvm=Support(ok=False, reason="unknown", error=ZeroDivisionError("bug")))
    with pytest.raises(ZeroDivisionError, match="bug"):
        needs.skip_unless("kvm")


def test_a_misspelt_requirement_is_an_error_when_tests_are_collected() -> None:
    with pytest.raises(InvalidArgument, match="uffd_wp_asink"):
        needs.requires("uffd_wp_asink")


@needs.requires("uffd_wp_async")
def test_the_marker_reaches_the_probes(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("requires").args == ("uffd_wp_async",)
    assert needs.features().uffd_wp_async.ok
