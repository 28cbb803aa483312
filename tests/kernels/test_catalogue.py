"""The kernel matrix asks for things that exist."""

import shlex
from pathlib import Path

import pytest
from catalogue import KERNELS, Kernel
from probe import MECHANISMS

ROOT = Path(__file__).parents[2]
each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


@each_kernel
def test_selection_names_files_of_this_project(kernel: Kernel) -> None:
    paths = [word.partition("::")[0] for word in shlex.split(kernel.selection) if "/" in word]
    assert len(paths) > 1
    assert [path for path in paths if not (ROOT / path).exists()] == []


@each_kernel
def test_offers_are_mechanisms_that_the_probe_knows(kernel: Kernel) -> None:
    assert kernel.offers <= MECHANISMS.keys()


def test_name_says_architecture() -> None:
    assert all(kernel.name == name and name.endswith("-" + kernel.machine.debian) for name, kernel in KERNELS.items())
