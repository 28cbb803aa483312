"""The probes against this kernel, under every restriction that this machine can be put under.

What is expected comes from the kernel's version and configuration, and from what the test itself forbade.
"""

import ctypes
import errno
import gzip
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import pagewatch
from pagewatch.linux.features import CATALOGUE, Group, features, probe_all
from pagewatch.linux.probes.kinds import probe_hugetlb
from pagewatch.linux.probes.target import Target, command
from pagewatch.vocab.errors import FeatureMissing, InvalidArgument
from support.hugepages import hugetlb_pages
from support.needs import requires
from support.restricted import NOBODY, doctor

SINCE = {
    "userfaultfd": (4, 3),
    "uffd_wp_sync": (5, 7),
    "process_madvise_collapse": (6, 1),
    "pagemap_scan": (6, 7),
    "uffd_wp_async": (6, 7),
    "shmem": (6, 7),
    "disk_files": (6, 7),
    "thp": (6, 7),
    "launch": (6, 7),
    "attach": (6, 7),
    "reports_kernel_writes": (6, 7),
    "procmap_query": (6, 11),
    "scan_guard_category": (6, 16),
}
"""The mainline version that brought each to x86-64; distributions may bring one earlier, none later."""

OWN_MEMORY = ("uffd_wp_async", "shmem", "disk_files", "thp", "reports_dropped_pages", "reports_kernel_writes")


def kernel_version() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


def kernel_config() -> str:
    boot = Path(f"/boot/config-{os.uname().release}")
    if boot.exists():
        return boot.read_text()
    try:
        return gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except FileNotFoundError:
        pytest.skip("this kernel does not tell its configuration (CONFIG_IKCONFIG_PROC)")


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_no_probe_is_broken(name: str) -> None:
    support = features()[name]
    if support.error is not None:
        raise support.error
    assert support.ok or support.reason


@pytest.mark.parametrize("name", list(SINCE))
def test_root_has_what_the_version_promises(name: str) -> None:
    if os.geteuid() or os.uname().machine != "x86_64":
        pytest.skip("the table is for root on x86-64")
    if kernel_version() < SINCE[name]:
        pytest.skip(f"Linux {'.'.join(map(str, SINCE[name]))} brought it")
    support = features()[name]
    assert support.ok, (support.reason, support.hint)


def test_soft_dirty_is_there_exactly_if_it_was_built_in() -> None:
    assert features().soft_dirty.ok == ("CONFIG_MEM_SOFT_DIRTY=y" in kernel_config())


def test_soft_dirty_compiled_out_is_not_taken_for_tracking_nothing() -> None:
    """Clearing it succeeds there all the same."""
    if "CONFIG_MEM_SOFT_DIRTY=y" in kernel_config():
        pytest.skip("this kernel has it")
    Path("/proc/self/clear_refs").write_text("4")
    assert "store does not set it" in features().soft_dirty.reason
    assert "CONFIG_MEM_SOFT_DIRTY" in features().soft_dirty.hint


def test_answers_are_cached_for_the_life_of_the_process() -> None:
    assert features() is features()
    assert pagewatch.features() is features()
    assert isinstance(features(), pagewatch.Features)


def test_probing_leaves_nothing_behind() -> None:
    probe_all()  # whatever is opened once and for all is open now
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - a Path would hold a descriptor of its own
    threads = threading.active_count()
    children = _children()
    probe_all()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208 - as above
    assert threading.active_count() == threads
    assert _children() == children


def _children() -> list[str]:
    """Zombies included."""
    return sorted(pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split())


@requires("uffd_wp_async")
def test_probing_disturbs_no_tracking_under_way() -> None:
    pages = 64
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"x" * len(memory)
    with pagewatch.track(memory) as tracker:
        memory[5 * mmap.PAGESIZE] = 1
        probe_all()
        memory[9 * mmap.PAGESIZE] = 1
        assert tracker.collect().regions.within(memory) == [
            slice(page * mmap.PAGESIZE, (page + 1) * mmap.PAGESIZE) for page in (5, 9)
        ]
        probe_all()
        assert not len(tracker.collect().regions)
    memory.close()


def test_probing_costs_less_than_half_a_second() -> None:
    """Of processor time, which other work on the machine does not change."""
    start_s = _cpu_seconds_of(lambda: subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True))
    if start_s > 0.1:
        pytest.skip(f"an emulated machine? Starting an interpreter alone costs {start_s:.2f} s")
    assert _cpu_seconds_of(probe_all) < 0.5


def _cpu_seconds_of(action: Callable[[], object]) -> float:
    """Of this process and of children that ended; the best of three."""
    return min(_cpu_seconds_once(action) for _ in range(3))


def _cpu_seconds_once(action: Callable[[], object]) -> float:
    before = os.times()
    action()
    return sum(os.times()[:4]) - sum(before[:4])


@requires("uffd_wp_async")
def test_hugetlb_is_shown_as_soon_as_a_page_is_free() -> None:
    with hugetlb_pages(1):
        answer = probe_hugetlb()
    assert answer.ok, answer.reason


@requires("uffd_wp_async")
def test_an_ordinary_user_can_track_and_learns_by_which_way() -> None:
    code, answer = doctor(user=NOBODY)
    assert code == 0
    assert answer["user_id"] == NOBODY
    userfaultfd = answer["features"]["userfaultfd"]
    assert userfaultfd["ok"]
    if not int(Path("/proc/sys/vm/unprivileged_userfaultfd").read_text()) and not _is_open_to_all("/dev/userfaultfd"):
        assert userfaultfd["reason"] == "by userfaultfd(2) for user mode only"
    assert all(answer["features"][name]["ok"] for name in OWN_MEMORY)
    assert all(feature["known"] for feature in answer["features"].values())


def _is_open_to_all(device: str) -> bool:
    try:
        return Path(device).stat().st_mode & 0o006 == 0o006
    except FileNotFoundError:
        return False


@requires("attach", "launch")
def test_an_ordinary_user_can_attach_to_what_is_its_own() -> None:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if scope.exists() and int(scope.read_text()):
        pytest.skip("kernel.yama.ptrace_scope forbids it")
    _, answer = doctor(user=NOBODY)
    assert answer["features"]["attach"]["ok"]
    assert answer["features"]["launch"]["ok"]


@requires("uffd_wp_async")
def test_a_filter_against_userfaultfd_is_named_with_both_remedies() -> None:
    if _is_open_to_all("/dev/userfaultfd"):
        pytest.skip("/dev/userfaultfd is open to all here")
    code, answer = doctor("deny=userfaultfd:EPERM", user=NOBODY)
    assert code == 1
    assert not answer["can_track"]
    own = answer["features"]["uffd_wp_async"]
    assert not own["ok"]
    assert own["known"]
    assert "seccomp" in own["reason"]
    assert "allow the userfaultfd system call" in own["hint"]
    assert "--device /dev/userfaultfd" in own["hint"]
    assert own["reason"] in answer["verdict"]
    assert own["hint"] in answer["verdict"]
    assert all(answer["features"][name]["reason"] == own["reason"] for name in OWN_MEMORY)
    assert answer["features"]["pagemap_scan"]["ok"], "scanning needs no userfaultfd"


def test_a_filter_that_plays_an_old_kernel_is_named_too() -> None:
    if _is_open_to_all("/dev/userfaultfd"):
        pytest.skip("/dev/userfaultfd is open to all here")
    _, answer = doctor("deny=userfaultfd:ENOSYS", user=NOBODY)
    assert "seccomp" in answer["features"]["userfaultfd"]["reason"]
    assert answer["features"]["userfaultfd"]["known"]


@requires("uffd_wp_async")
@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_the_device_is_a_way_around_the_filter(error: str) -> None:
    if not os.access("/dev/userfaultfd", os.R_OK | os.W_OK):
        pytest.skip("/dev/userfaultfd is closed to this user (Linux before 6.1, or its permissions)")
    code, answer = doctor(f"deny=userfaultfd:{error}")
    assert code == 0
    assert answer["features"]["userfaultfd"]["reason"] == "by /dev/userfaultfd"
    assert all(answer["features"][name]["ok"] for name in OWN_MEMORY)


@requires("uffd_wp_async")
def test_a_process_that_is_not_dumpable_is_told_so() -> None:
    code, answer = doctor("undumpable", user=NOBODY)
    assert code == 1
    own = answer["features"]["uffd_wp_async"]
    assert "not dumpable" in own["reason"]
    assert "PR_SET_DUMPABLE" in own["hint"]
    assert answer["features"]["userfaultfd"]["ok"], "a userfaultfd alone can be had"


@requires("attach")
def test_forbidden_tracing_is_told_from_forbidden_tracking() -> None:
    code, answer = doctor("deny=ptrace:EPERM")
    assert code == 0
    for name in ("attach", "launch"):
        assert not answer["features"][name]["ok"]
        assert "may trace no processes" in answer["features"][name]["reason"]
        assert "SYS_PTRACE" in answer["features"][name]["hint"]
    assert answer["features"]["uffd_wp_async"]["ok"]


@pytest.mark.parametrize("call", ["pidfd_open", "pidfd_getfd", "process_madvise", "perf_event_open"])
@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_whatever_a_filter_refuses_no_probe_breaks(call: str, error: str) -> None:
    _, answer = doctor(f"deny={call}:{error}")
    assert [name for name, feature in answer["features"].items() if not feature["known"]] == []
    assert all(feature["ok"] or feature["reason"] for feature in answer["features"].values())


@pytest.mark.parametrize("limit", [4, 5, 6, 8, 12])
def test_want_of_descriptors_is_told_and_no_probe_breaks(limit: int) -> None:
    _, answer = doctor(f"descriptors={limit}")
    assert [name for name, feature in answer["features"].items() if not feature["known"]] == []
    assert "ulimit -n" in answer["features"]["attach"]["hint"]


@requires("thp")
def test_huge_pages_switched_off_for_this_process_are_told_and_cost_nothing_else() -> None:
    code, answer = doctor("no-thp")
    assert code == 0
    assert not answer["features"]["thp"]["ok"]
    assert "PR_SET_THP_DISABLE" in answer["features"]["thp"]["hint"]
    assert answer["features"]["reports_dropped_huge_pages"]["known"]


def test_an_embedded_interpreter_is_told_what_it_cannot_start() -> None:
    _, answer = doctor("embedded")
    for name in ("attach", "launch", "soft_dirty"):
        assert "sys.executable" in answer["features"][name]["hint"]
        assert answer["features"][name]["known"]


def test_an_interpreter_that_may_not_be_run_is_a_reason_and_no_bug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    locked = tmp_path / "python"
    locked.touch(mode=0o600)
    monkeypatch.setattr(sys, "executable", str(locked))
    with pytest.raises(FeatureMissing) as refused:
        command()
    assert str(locked) in refused.value.reason
    assert "sys.executable" in refused.value.hint


def test_every_no_of_this_machine_says_what_to_do() -> None:
    assert [name for name, support in features() if not support.ok and not support.hint] == []


def test_self_tests_are_no_part_of_the_verdict() -> None:
    _, answer = doctor()
    for name, question in CATALOGUE.items():
        if question.group is not Group.ABILITY:
            assert question.title not in answer["verdict"], name


@requires("perf_page_faults")
def test_perf_is_refused_with_its_own_switch_named() -> None:
    _, answer = doctor("deny=perf_event_open:EACCES")
    assert "perf_event_paranoid" in answer["features"]["perf_page_faults"]["hint"]


@requires("kvm")
def test_kvm_opens_for_those_who_may() -> None:
    """The oracle: its API version, which has been 12 for ever."""
    with Path("/dev/kvm").open("r+b", buffering=0) as kvm:
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.ioctl(kvm.fileno(), 0xAE00, 0) == 12, errno.errorcode.get(ctypes.get_errno())


def test_a_child_without_pipes_is_not_probed():
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as child, pytest.raises(InvalidArgument, match="pipes"):
        Target(child)
