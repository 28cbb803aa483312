import pytest

from pagewatch.linux.features import CATALOGUE
from support.scripts import script
from support.tree import ROOT


@pytest.fixture(scope="module")
def matrix():
    return script("support_matrix")


def answers(**others):
    yes = {"ok": True, "known": True, "reason": "", "hint": ""}
    return dict.fromkeys(CATALOGUE, yes) | others


NO = {"ok": False, "known": True, "reason": "there is none", "hint": "get one"}


def row(page, name):
    (line,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.split("|")[3:-1]]


def test_the_page_in_docs_is_what_the_answers_in_docs_make(matrix):
    """If this fails: python scripts/support_matrix.py."""
    made = matrix.page(matrix.read(ROOT / "docs" / "support_matrix"))
    assert (ROOT / "docs" / "support_matrix.md").read_text() == made


def test_the_answers_in_docs_are_of_several_kernels_and_no_probe_was_broken(matrix):
    kernels = matrix.read(ROOT / "docs" / "support_matrix")
    assert len(kernels) >= 3
    assert all(answer["known"] for found in kernels.values() for answer in found.values())


def test_every_feature_has_a_row_and_every_kernel_a_column(matrix):
    page = matrix.page({"6.1-a": answers(), "6.12-a": answers(thp=NO)})
    assert all(row(page, name) == ["yes", "yes"] for name in CATALOGUE if name != "thp")
    assert row(page, "thp") == ["yes", "**no**"]


def test_what_was_not_asked_or_not_found_out_is_neither_yes_nor_no(matrix):
    old = answers()
    del old["kvm"]
    page = matrix.page({"6.1-a": old, "6.2-a": answers(kvm={**NO, "known": False})})
    assert row(page, "kvm") == ["not asked", "unknown"]


def test_a_reason_is_given_once_with_all_that_it_holds_for(matrix):
    page = matrix.page({"6.1-a": answers(thp=NO, shmem=NO), "6.2-a": answers(thp=NO, shmem=NO, kvm=NO)})
    reasons = page.partition("## Why not")[2].strip().splitlines()
    assert reasons == [
        "* `shmem`, `thp` on 6.1-a, 6.2-a: there is none. *get one*",
        "* `kvm` on 6.2-a: there is none. *get one*",
    ]


def test_kernels_are_ordered_by_version_not_by_letter(matrix):
    assert matrix.in_order_of_version(["6.18-a", "6.1-b", "6.12-a", "6.1-a", "10.0-a"]) == [
        "6.1-a",
        "6.1-b",
        "6.12-a",
        "6.18-a",
        "10.0-a",
    ]
