import dataclasses
import json
import os

import pytest

from pagewatch.cli import doctor
from pagewatch.cli.main import run
from pagewatch.linux.features import CATALOGUE, Features, Group
from pagewatch.linux.probes.support import Support
from support.needs import requires

GOOD = Features(**{name: Support.yes() for name in CATALOGUE})


def doctor_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, found: Features, *options: str
) -> tuple[int, str]:
    """Exit code and output, with answers made up."""
    monkeypatch.setattr(doctor, "features", lambda: found)
    monkeypatch.setenv("COLUMNS", "500")
    code = run(["doctor", *options])
    output = capsys.readouterr()
    assert output.err == ""
    return code, output.out


def line_of(text: str, name: str) -> str:
    """The line that begins with an answer and the name."""
    (line,) = (line.rstrip() for line in text.splitlines() if line.split()[1:2] == [name])
    return line


def test_all_is_well(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = doctor_says(capsys, monkeypatch, GOOD)
    assert code == 0
    assert "You can track memory of this process; " in text
    assert "cannot" not in text
    assert "Not shown" not in text
    assert [name for name in CATALOGUE if not line_of(text, name).startswith("  yes")] == []
    assert [group.value for group in Group if group.value not in text.splitlines()] == []
    assert [line for line in text.splitlines() if line.endswith(" ")] == []


def test_what_is_missing_comes_with_reason_and_remedy_and_in_the_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dataclasses.replace(GOOD, thp=Support.no("there is none", "get one"))
    code, text = doctor_says(capsys, monkeypatch, found)
    assert code == 0
    assert f"Not shown to work: {CATALOGUE['thp'].title}." in text
    assert line_of(text, "thp").startswith("  no ")
    assert line_of(text, "thp").endswith(": there is none")
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[lines.index(line_of(text, "thp")) + 1].strip() == "-> get one"


def test_no_tracking_of_own_memory_is_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dataclasses.replace(GOOD, uffd_wp_async=Support.no("there is none", "get one"))
    code, text = doctor_says(capsys, monkeypatch, found)
    assert code == 1
    assert "You cannot track memory of this process: there is none. What to do: get one. You can track programs" in text


def test_one_reason_is_explained_once(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Support.no("it is refused", "allow it")
    found = dataclasses.replace(GOOD, shmem=refused, thp=refused, kvm=Support.no("it is refused", "join the group"))
    _, text = doctor_says(capsys, monkeypatch, found)
    assert line_of(text, "shmem").endswith(": it is refused")
    assert line_of(text, "thp").endswith(": as for shmem")
    assert line_of(text, "kvm").endswith(": it is refused")
    assert text.count("-> allow it") == 1


def test_a_broken_probe_is_neither_yes_nor_no(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dataclasses.replace(GOOD, kvm=Support(ok=False, reason="unknown, it failed", error=ZeroDivisionError()))
    code, text = doctor_says(capsys, monkeypatch, found)
    assert code == 0
    assert line_of(text, "kvm").startswith("  ?  ")
    _, text = doctor_says(capsys, monkeypatch, found, "--json")
    answer = json.loads(text)["features"]["kvm"]
    assert (answer["ok"], answer["known"]) == (False, False)


def test_reasons_cannot_disturb_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dataclasses.replace(GOOD, kvm=Support.no("[red]a\x1b[2Jb\u202e", "c\rd"))
    _, text = doctor_says(capsys, monkeypatch, found)
    assert "[red]a\\x1b[2Jb\\u202e" in text
    assert "c\\rd" in text


def test_json_has_every_feature_and_the_machine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dataclasses.replace(GOOD, thp=Support.no("there is none", "get one"))
    code, text = doctor_says(capsys, monkeypatch, found, "--json")
    answer = json.loads(text)
    assert code == 0
    assert list(answer["features"]) == list(CATALOGUE)
    assert answer["features"]["thp"] == {
        "ok": False,
        "known": True,
        "reason": "there is none",
        "hint": "get one",
        "group": Group.ABILITY.value,
        "title": CATALOGUE["thp"].title,
    }
    assert answer["can_track"] is True
    assert (answer["kernel"], answer["machine"]) == (os.uname().release, os.uname().machine)


def test_unknown_options_are_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--fix"]) == 2
    assert "--fix" in capsys.readouterr().err


@requires("uffd_wp_async")
def test_the_real_thing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    assert "You can track memory of this process" in capsys.readouterr().out.replace("\n", " ")
