"""Scenarios: each shipped one ends as it says, under its schedule and in every interleaving."""

import pytest

from pagewatch.scenarios.play import explore, play
from pagewatch.scenarios.script import Script, load, parse, shipped_names
from pagewatch.vocab.errors import InvalidArgument

SHIPPED = [(name, variant.name) for name in shipped_names() for variant in load(name).variants]


def variant_of(script: Script, name: str) -> object:
    return next(variant for variant in script.variants if variant.name == name)


@pytest.mark.parametrize(("name", "variant"), SHIPPED)
def test_under_its_schedule_it_ends_as_it_says_and_tells_why(name: str, variant: str) -> None:
    script = load(name)
    chosen = variant_of(script, variant)
    played = play(script, chosen)
    assert bool(played.broken) is chosen.breaks, played.broken
    assert played.story.events


@pytest.mark.parametrize(("name", "variant"), SHIPPED)
def test_in_every_interleaving_a_defect_breaks_in_some_and_the_kernel_in_none(name: str, variant: str) -> None:
    chosen = variant_of(load(name), variant)
    explored = explore(chosen, limit=2000)
    assert explored.complete
    assert bool(explored.broken) is chosen.breaks


def test_every_shipped_scenario_shows_both_sides() -> None:
    for name in shipped_names():
        assert {variant.breaks for variant in load(name).variants} == {False, True}


SMALL = """
title = "t"
story = "s"
watch = "a"
setup = ["map a 1"]
cpu0 = ["store a[0] zero"]
cpu1 = ["store a[0] ones"]
finally = ["expect a[0] zero"]
schedule = {schedule}
[variants.v]
"""


def test_the_schedule_decides_who_comes_last() -> None:
    for schedule, breaks in (('["cpu1", "cpu0"]', False), ('["cpu0", "cpu1"]', True)):
        script = parse("small", SMALL.format(schedule=schedule))
        assert bool(play(script, script.variants[0]).broken) is breaks


def test_a_cpu_can_be_stopped_before_a_step() -> None:
    script = parse("small", SMALL.format(schedule='["cpu0 before store", "cpu1"]'))
    labels = [(event.thread, event.label) for event in play(script, script.variants[0]).story.events]
    assert labels[-1] == (1, "store") or labels[-1] == (0, "store")
    assert labels.index((0, "tlb: fill")) < labels.index((1, "tlb: fill"))


def test_a_bound_leaves_interleavings_out_and_none_that_takes_fewer_preemptions() -> None:
    n = [
        explore(parse("s", f"preemptions = {k}\n" + SMALL.format(schedule="[]")).variants[0], limit=9999)
        for k in (0, 1)
    ]
    assert n[0].traces == 2
    assert 0 < n[0].broken < n[0].traces < n[1].traces


def test_a_limit_is_told() -> None:
    script = parse("small", SMALL.format(schedule="[]"))
    explored = explore(script.variants[0], limit=1)
    assert (explored.traces, explored.complete) == (1, False)


def test_a_cpu_can_be_run_to_the_end_of_a_later_step_of_a_label() -> None:
    """CPU 0 looks its TLB up before the fault and after it; until the second time it has not stored."""
    script = parse("small", SMALL.format(schedule='["cpu0 to tlb: look up * 2", "cpu1", "cpu0"]'))
    events = [(event.thread, event.label) for event in play(script, script.variants[0]).story.events]
    assert events.index((1, "store")) < events.index((0, "store"))
    assert events.index((0, "fault: find the area")) < events.index((1, "store"))


@pytest.mark.parametrize("line", ["cpu2", "cpu0 until x", "cpu0 to", "go", "cpu0 before"])
def test_a_schedule_that_makes_no_sense_is_refused(line: str) -> None:
    script = parse("small", SMALL.format(schedule=f'["{line}"]'))
    with pytest.raises(InvalidArgument, match="schedule"):
        play(script, script.variants[0])


def test_a_wrong_statement_of_a_thread_is_an_error_not_a_finding() -> None:
    text = SMALL.format(schedule="[]").replace("store a[0] zero", "stoer a[0] zero")
    script = parse("small", text)
    with pytest.raises(InvalidArgument, match="'stoer' is no statement"):
        play(script, script.variants[0])
