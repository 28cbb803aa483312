"""Scenario files: what is read, and what is refused with a word on where."""

from pathlib import Path

import pytest

from pagewatch.scenarios.script import load, parse
from pagewatch.vocab.errors import InvalidArgument

HEAD = 'title = "t"\nstory = "s"\nwatch = "a"\n'


def test_a_variant_replaces_lists_and_inherits_the_rest() -> None:
    script = parse("x", HEAD + 'cpu0 = ["flush"]\ncpu1 = ["fork"]\n[variants.v]\ncpu1 = []\n')
    assert script.variants[0].cpus == (("flush",), ())


def test_a_format_and_a_bound_hold_for_all_variants_that_name_no_other() -> None:
    head = HEAD + 'arch = "ppc64-radix-64k"\npreemptions = 1\nstops = ["gup"]\n'
    first, second = parse("x", head + '[variants.v]\n[variants.w]\narch = "arm64-4k"\npreemptions = 0\n').variants
    assert (first.arch, first.preemptions, first.stops) == ("ppc64-radix-64k", 1, ("gup",))
    assert (second.arch, second.preemptions, second.stops) == ("arm64-4k", 0, ("gup",))


def test_quirks_are_set_by_name() -> None:
    script = parse("x", HEAD + "[variants.v]\nquirks = { migrate_drops_dirty = true }\nbreaks = true\n")
    assert script.variants[0].quirks.migrate_drops_dirty
    assert script.variants[0].breaks


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "x: "),
        (HEAD, r"no \[variants"),
        (HEAD + "[variants]\nv = 1\n", "variant v: not a table"),
        (HEAD + "other = 1\n[variants.v]\n", "unknown other"),
        (HEAD + "[variants.v]\nquirks = { nonsense = 1 }\n", "unknown nonsense"),
        (HEAD + "[variants.v]\nbreaks = 1\n", "breaks is true or false"),
        (HEAD + 'setup = "map a 1"\n[variants.v]\n', "setup is a list"),
        (HEAD + 'system = "five"\n[variants.v]\n', "system is a number"),
        (HEAD + 'arch = "z80"\n[variants.v]\n', "unknown arch 'z80'"),
        (HEAD + "preemptions = -1\n[variants.v]\n", "preemptions is a number"),
        ('title = "t"\n[variants.v]\n', "story is missing"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        parse("x", text)


def test_a_file_is_named_for_its_stem_and_a_missing_one_lists_what_there_is(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(HEAD + "[variants.v]\n")
    assert load(str(file)).name == "mine"
    with pytest.raises(InvalidArgument, match="migrate-dirty"):
        load("nonsense")
