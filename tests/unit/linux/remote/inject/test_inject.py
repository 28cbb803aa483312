"""The rows of ARCHITECTURES."""

import os

import pytest

from pagewatch.linux.abi.numbers import SYSCALLS
from pagewatch.linux.remote.inject import ARCHITECTURES, architecture
from pagewatch.vocab.errors import FeatureMissing


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_machine_has_its_call_numbers(machine: str) -> None:
    assert {"userfaultfd", "close", "ptrace", "pidfd_getfd"} <= SYSCALLS[machine].keys()


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_unmoved_registers_are_unchanged(machine: str) -> None:
    arch = ARCHITECTURES[machine]
    registers = os.urandom(arch.registers_bytes)
    assert arch.moved(registers, arch.instruction_pointer(registers)) == registers
    assert len(arch.calling(registers, 0, 1, 2)) == arch.registers_bytes


def test_unknown_machine_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:4], "vax")))
    with pytest.raises(FeatureMissing, match="attach: not written for vax"):
        architecture()
