"""``pagewatch model``: by hand, and from a file."""

import json
from pathlib import Path

from support.commands import assert_short_error, pagewatch


def test_statements_come_from_standard_input() -> None:
    done = pagewatch("model", input="map a 2\narm a\nstore a[1] hello\ncollect a\n")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "written: a[1]"


def test_explain_tells_what_a_statement_does() -> None:
    done = pagewatch("model", input="map a 1\nexplain a store a[0] x\nshow a\n")
    assert "PTE of page 0: empty -> frame" in done.stdout
    assert "PGD[" in done.stdout


def test_a_wrong_statement_ends_a_script_with_a_short_error() -> None:
    done = pagewatch("model", input="map a 1\nnonsense\nload a\n")
    assert done.returncode == 2
    assert "no statement" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_expectation_that_does_not_hold_is_a_failure() -> None:
    done = pagewatch("model", input="map a 1\nexpect a[0] x\n")
    assert done.returncode == 1
    assert "holds b" in done.stderr


def test_answers_come_as_json_lines() -> None:
    done = pagewatch("model", "--json", input="map a 2\nstore a[1] hello\nload a[1]\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert answers[-1] == {"statement": "load a[1]", "answer": "'hello'"}


def test_a_shipped_scenario_shows_both_sides_and_every_interleaving() -> None:
    done = pagewatch("model", "run", "migrate-dirty", "--all")
    assert done.returncode == 0
    assert "== defect: breaks" in done.stdout
    assert "== kernel: holds" in done.stdout
    assert "interleavings: 0 break" in done.stdout


def test_json_says_the_same() -> None:
    done = pagewatch("model", "run", "scan-flush", "--all", "--json")
    result = {v["variant"]: v for v in json.loads(done.stdout)["variants"]}
    assert result["narrowed"]["broken"]
    assert result["narrowed"]["interleavings"]["broken"] > 0
    assert result["kernel"]["broken"] is None
    assert result["kernel"]["interleavings"] == result["kernel"]["interleavings"] | {"broken": 0, "complete": True}


def test_a_scenario_that_does_not_end_as_it_says_fails(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('title="t"\nstory="s"\nwatch="a"\nsetup=["map a 1"]\nfinally=["expect a[0] x"]\n[variants.v]\n')
    done = pagewatch("model", "run", str(file))
    assert done.returncode == 1
    assert "== v: breaks" in done.stdout


def test_unknown_names_are_wrong_use() -> None:
    assert_short_error(pagewatch("model", "run", "nonsense"), 2, "migrate-dirty")
    assert_short_error(pagewatch("model", "run", "scan-flush", "--variant", "x"), 2, "narrowed")


def test_the_shipped_scenarios_are_listed() -> None:
    assert "clean-flush" in pagewatch("model", "list").stdout
    assert {"name", "title", "system"} == set(json.loads(pagewatch("model", "list", "--json").stdout)[0])


def test_what_a_bound_left_out_is_told() -> None:
    done = pagewatch("model", "run", "collapse-table-free", "--all")
    assert done.returncode == 0
    assert "interleavings (preemptions: at most 1, before 'gup fast'): 1 break" in done.stdout


def test_options_that_say_nothing_to_a_scenario_are_wrong_use() -> None:
    assert_short_error(pagewatch("model", "--arch", "s390", "run", "migrate-dirty"), 2, "--arch", "model --help")
    assert_short_error(pagewatch("model", "--json", "list"), 2, "--json", "behind 'list'")


def test_a_file_of_something_else_is_a_short_error(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_bytes(b"\xff\xfe\x00")
    assert_short_error(pagewatch("model", "run", other), 2, str(other), "not a scenario")


def test_exit_ends_the_process_and_quit_the_session() -> None:
    done = pagewatch("model", input="map a 1\nquit\nnonsense\n")
    assert (done.returncode, done.stderr) == (0, "")
    done = pagewatch("model", input="map a 1\nfork\nexit\nchild show a\nload a[0]\n")
    assert done.stdout.splitlines()[-1].startswith("PGD[")
    assert done.returncode == 2
    assert done.stderr == "pagewatch: 'load a[0]': the process has ended\n"
