"""System call numbers, against the headers of this machine and what they do."""

import os
import re
import shutil
import subprocess

import pytest

from pagewatch.linux.abi.numbers import SYSCALLS
from pagewatch.linux.syscalls import syscall


def test_both_machines_have_what_scanning_and_attaching_call():
    needed = {"userfaultfd", "pidfd_open", "pidfd_getfd", "process_madvise", "ptrace", "close", "getpid"}
    assert all(needed <= numbers.keys() for numbers in SYSCALLS.values())


def test_numbers_from_424_on_are_the_same_everywhere():
    x86, arm = SYSCALLS["x86_64"], SYSCALLS["aarch64"]
    assert {name: number for name, number in arm.items() if number >= 424} == {
        name: x86[name] for name, number in arm.items() if number >= 424
    }


def test_numbers_are_those_of_the_headers():
    compiler = shutil.which("cc")
    machine = os.uname().machine
    if compiler is None or machine not in SYSCALLS:
        pytest.skip("needs a C compiler, to read the headers with, on a machine that is supported")
    done = subprocess.run(
        [compiler, "-E", "-dM", "-include", "sys/syscall.h", "-xc", "/dev/null"],
        capture_output=True,
        text=True,
        check=True,
    )
    in_headers = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)\n", done.stdout)}
    known = {name: number for name, number in SYSCALLS[machine].items() if name in in_headers}
    assert "userfaultfd" in known
    assert known == {name: in_headers[name] for name in known}


def test_getpid_by_number_gives_our_pid():
    assert syscall("getpid") == os.getpid()
