import dataclasses
import inspect

import pytest

from pagewatch.linux.features import CATALOGUE, Features, Group
from pagewatch.linux.probes.support import Support
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument

GOOD = Features(**{name: Support.yes() for name in CATALOGUE})


def test_every_feature_has_a_probe_of_its_own() -> None:
    probes = [question.probe for question in CATALOGUE.values()]
    assert len(set(probes)) == len(probes)
    assert [probe.__name__ for probe in probes] == [f"probe_{name}" for name in CATALOGUE]
    assert all(inspect.getdoc(probe) for probe in probes)


def test_every_feature_has_a_title_and_every_group_a_feature() -> None:
    assert all(question.title for question in CATALOGUE.values())
    assert {question.group for question in CATALOGUE.values()} == set(Group)


def test_iteration_gives_every_attribute_in_the_order_of_declaration() -> None:
    names = [field.name for field in dataclasses.fields(Features)]
    assert [name for name, _ in GOOD] == names
    assert all(support is getattr(GOOD, name) for name, support in GOOD)


def test_features_of_one_group_are_declared_together() -> None:
    groups = [question.group for question in CATALOGUE.values()]
    assert groups == sorted(groups, key=list(Group).index)


def test_without_switches_off_the_named_ones_only() -> None:
    less = GOOD.without("thp", "kvm")
    assert [name for name, support in less if not support.ok] == ["thp", "kvm"]
    assert less.thp.reason
    assert GOOD.thp.ok
    assert GOOD.without() == GOOD


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_requiring_what_is_missing_raises_its_own_reason(name: str) -> None:
    lacking = dataclasses.replace(GOOD, **{name: Support.no("there is none", "get one")})
    GOOD.require(name)
    with pytest.raises(FeatureMissing) as caught:
        lacking.require(*CATALOGUE)
    assert (caught.value.feature, caught.value.reason, caught.value.hint) == (name, "there is none", "get one")


def test_a_broken_probe_is_the_cause_of_what_it_makes_fail() -> None:
    bug = ZeroDivisionError()
    lacking = dataclasses.replace(GOOD, thp=Support(ok=False, reason="unknown", error=bug))
    with pytest.raises(FeatureMissing) as caught:
        lacking.require("thp")
    assert caught.value.__cause__ is bug


@pytest.mark.parametrize("ask", [GOOD.without, GOOD.require, GOOD.__getitem__])
def test_a_misspelt_name_is_an_error_that_names_the_choices(ask: object) -> None:
    with pytest.raises(InvalidArgument, match=r"'uffd_wp_asink'.*uffd_wp_async"):
        ask("uffd_wp_asink")


def test_answers_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GOOD.thp = Support.no("")
    with pytest.raises(dataclasses.FrozenInstanceError):
        GOOD.thp.ok = False
