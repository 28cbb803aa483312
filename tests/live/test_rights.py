"""Which programs lose rights when they are traced, held against what the kernel does to them."""

import ctypes
import os
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagewatch.linux.abi.ptrace import CAP_SYS_ADMIN
from pagewatch.linux.remote.launch import launch
from pagewatch.linux.remote.rights import has_capability, lost_when_traced, may_suspend_seccomp
from pagewatch.vocab.errors import CannotLaunch
from support import restricted
from support.forked import NOBODY, in_forked_child
from support.needs import requires
from support.patients import fields_of

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make programs with rights (run as root)"),
]

_PR_SET_NO_NEW_PRIVS = 38
_NET_RAW = 13
# struct vfs_cap_data, revision 2 with the effective bit: little-endian whatever the machine.
_CAPABILITY = struct.pack("<5I", 0x0200_0001, 1 << _NET_RAW, 0, 0, 0)
_RIGHTS = {"user": "another user's rights", "group": "another group's rights", "capability": "capabilities of its own"}


@pytest.fixture
def program() -> Iterator[Path]:
    """A copy of cat that anybody may run."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield Path(shutil.copy("/bin/cat", directory))
    shutil.rmtree(directory)


def give(program: Path, right: str) -> None:
    if right == "capability":
        os.setxattr(program, "security.capability", _CAPABILITY)
    else:
        program.chmod(0o755 | (stat.S_ISUID if right == "user" else stat.S_ISGID))


def rights_gained(program: Path) -> bool:
    """Whether the kernel gives it more than nobody has; it has not, traced or not, if its directory forbids that."""
    status = subprocess.run(
        [program, "/proc/self/status"], check=True, capture_output=True, text=True, user=NOBODY, group=NOBODY
    ).stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return fields["CapEff"].strip("0") != "" or {*fields["Uid"].split(), *fields["Gid"].split()} != {str(NOBODY)}


@pytest.mark.parametrize("right", _RIGHTS)
def test_rights_that_a_program_would_lose_are_named(program: Path, right: str) -> None:
    assert in_forked_child(lambda: lost_when_traced(program), user=NOBODY) == ""
    assert not rights_gained(program)
    give(program, right)
    assert rights_gained(program)
    assert in_forked_child(lambda: lost_when_traced(program), user=NOBODY) == _RIGHTS[right]


@pytest.mark.parametrize("right", _RIGHTS)
def test_a_tracer_that_lets_it_keep_them_loses_it_nothing(program: Path, right: str) -> None:
    give(program, right)
    assert lost_when_traced(program) == ""


def test_what_the_program_has_already_is_not_lost(program: Path) -> None:
    os.chown(program, NOBODY, NOBODY)
    program.chmod(0o6755)
    assert in_forked_child(lambda: lost_when_traced(program), user=NOBODY) == ""


def test_set_group_bit_without_execution_is_no_right(program: Path) -> None:
    program.chmod(0o2745)
    assert in_forked_child(lambda: lost_when_traced(program), user=NOBODY) == ""


@pytest.mark.parametrize("right", _RIGHTS)
def test_nothing_is_lost_where_nothing_is_gained(program: Path, right: str) -> None:
    give(program, right)

    def without_new_rights() -> str:
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return lost_when_traced(program)

    assert in_forked_child(without_new_rights, user=NOBODY) == ""


def test_file_without_extended_attributes_has_no_capabilities() -> None:
    assert in_forked_child(lambda: lost_when_traced(Path("/proc/version")), user=NOBODY) == ""


def test_capability_is_that_of_the_calling_user() -> None:
    assert has_capability(CAP_SYS_ADMIN) == (
        int(fields_of(Path("/proc/self/status"))["CapEff"], 16) & (1 << CAP_SYS_ADMIN) != 0
    )
    assert in_forked_child(lambda: has_capability(CAP_SYS_ADMIN), user=NOBODY) is False


def test_filters_of_others_may_be_suspended_by_root_that_is_not_filtered() -> None:
    assert may_suspend_seccomp() == (
        has_capability(CAP_SYS_ADMIN) and fields_of(Path("/proc/self/status"))["Seccomp"] == "0"
    )
    assert in_forked_child(may_suspend_seccomp, user=NOBODY) is False

    def filtered() -> bool:
        restricted.deny("ptrace:EPERM")
        return may_suspend_seccomp()

    assert in_forked_child(filtered) is False


@requires("userfaultfd")
@pytest.mark.parametrize("right", _RIGHTS)
def test_command_refuses_to_record_a_program_that_would_lose_rights(program: Path, right: str) -> None:
    give(program, right)
    output = program.parent / "r"
    output.mkdir(mode=0o777)
    output.chmod(0o777)
    done = restricted.run(["record", "-o", str(output / "r"), "--", str(program)], user=NOBODY)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"cannot start {program}: it runs with {_RIGHTS[right]}, and would lose them under trace" in done.stderr
    assert "run as root" in done.stderr


@requires("userfaultfd")
def test_relative_command_is_looked_at_in_its_own_directory(program: Path) -> None:
    give(program, "user")
    error = in_forked_child(lambda: launch(["./cat"], cwd=program.parent), user=NOBODY)
    assert isinstance(error, CannotLaunch)
    assert "another user's rights" in str(error)


@requires("userfaultfd")
def test_program_that_root_launches_keeps_its_rights(program: Path) -> None:
    os.chown(program, NOBODY, NOBODY)
    give(program, "user")
    with launch([str(program), "/proc/self/status"], stdout=subprocess.PIPE) as launched:
        launched.release()
        said = launched.process.communicate(timeout=30)[0].decode()
    assert f"Uid:\t0\t{NOBODY}\t{NOBODY}\t{NOBODY}\n" in said
