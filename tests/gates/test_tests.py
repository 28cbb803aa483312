"""Tests about tests: one for every module, and none that cannot fail."""

import ast

import pytest

from support.tree import PACKAGE, TESTS, definitions, modules, short

TEST_MODULES = [path for path in modules(TESTS) if path.name.startswith("test_")]
ROOMS = ("vocab", "linux", "trackers", "trace")
LIVE_ROOMS = {"linux", "trackers"}

TESTED_ELSEWHERE = {
    "linux/probes": "live/test_features.py",
    "linux/remote/admission.py": "live/test_attach_states.py",
    "linux/remote/client.py": "live/test_attach.py",
    "linux/remote/identity.py": "live/test_attach_states.py",
    "linux/remote/shim.py": "live/test_launch.py",
    "linux/remote/surgeon.py": "live/test_attach_killed.py",
    "linux/remote/inject/base.py": "unit/linux/remote/inject/test_inject.py",
    "trace/rows.py": "unit/trace/test_columns.py",
}
"""Rooms and modules that are parts of one thing, with the test of that thing."""


def places_of(path):
    """Where the test of a module may lie."""
    inside = path.relative_to(PACKAGE)
    for part in (inside, *inside.parents):
        if str(part) in TESTED_ELSEWHERE:
            yield TESTS / TESTED_ELSEWHERE[str(part)]
    yield TESTS / "unit" / inside.with_name(f"test_{path.name}")
    if inside.parts[0] in LIVE_ROOMS:
        yield TESTS / "live" / f"test_{path.name}"


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_has_its_test(room):
    tested = {path: [place for place in places_of(path) if place.exists()] for path in modules(PACKAGE / room)}
    assert not [short(path) for path, places in tested.items() if not places and path.stem[0] != "_"]


@pytest.mark.parametrize("place", TESTED_ELSEWHERE)
def test_what_is_tested_elsewhere_exists(place):
    assert (PACKAGE / place).exists()
    assert (TESTS / TESTED_ELSEWHERE[place]).exists()


@pytest.mark.parametrize("room", ROOMS)
def test_every_unit_test_is_named_after_what_it_tests(room):
    known = {TESTS / "unit" / room / f"test_{room}.py", *map(TESTS.joinpath, TESTED_ELSEWHERE.values())}
    orphans = []
    for path in modules(TESTS / "unit" / room):
        below = path.relative_to(TESTS / "unit").parent
        name = path.stem.removeprefix("test_")
        if path.stem != name and path not in known and not (PACKAGE / below / f"{name}.py").exists():
            orphans.append(short(path))
    assert not orphans


@pytest.mark.parametrize("path", TEST_MODULES, ids=short)
def test_every_test_can_fail(path):
    idle = [name for name, node in definitions(path) if is_test(name) and not can_fail(node)]
    assert not idle


def is_test(name):
    return name.rpartition(".")[2].startswith("test_")


def can_fail(node):
    """Whether a test asserts, claims in its name that nothing is raised, or hands over to what checks by its name."""
    if "raises_nothing" in node.name:
        return True
    for part in ast.walk(node):
        if isinstance(part, ast.Assert):
            return True
        if isinstance(part, ast.Call):
            called = ast.unparse(part.func)
            if called in ("pytest.raises", "pytest.warns", "pytest.fail"):
                return True
            if called.rpartition(".")[2].lstrip("_").startswith(("assert", "check", "expect")):
                return True
    return False


@pytest.mark.parametrize("path", TEST_MODULES, ids=short)
def test_no_test_is_overwritten_by_another_of_its_name(path):
    names = [name for name, _ in definitions(path) if is_test(name)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", modules(TESTS), ids=short)
def test_processes_are_ended_by_pid_only(path):
    """A name belongs to whoever uses it: ending by name may hit what is not ours."""
    assert not [word for word in ("p" + "kill", "kill" + "all") if word in path.read_text()]
