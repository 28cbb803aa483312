"""``pagewatch record`` on real, unmodified programs."""

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from pagewatch.trace import EpochRow, Trace
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.blindspots import BlindReason
from support import stamper
from support.commands import PAGEWATCH, is_running, pagewatch, start, start_pagewatch, wait_until
from support.machine import machine_lock
from support.needs import requires

pytestmark = requires("uffd_wp_async", "pagemap_scan")

_STAMPED_PAGES = 400
_STAMPS = 150
# Between the two clocks of the header and the one of the program.
_SLACK_NS = 1_000_000


@dataclass(frozen=True)
class Stamped:
    """What a stamper says it did."""

    base: int
    stamps: tuple[tuple[int, int, int], ...]
    """Page, and when the store to it began and ended, monotonic nanoseconds."""

    @classmethod
    def of_output(cls, text: str) -> "Stamped":
        """Read its output."""
        base, *lines = text.splitlines()
        return cls(int(base), tuple(tuple(map(int, line.split())) for line in lines))


def stamper_command(seed: int) -> list[object]:
    return [sys.executable, stamper.__file__, _STAMPED_PAGES, _STAMPS, seed]


def assert_recorded_exactly(trace: Trace, stamped: Stamped) -> None:
    """Every store is in an epoch that it may be in, and every page in an epoch has a store that explains it."""
    origin_ns = round(trace.header.created_unix_s * 1e9) - (time.time_ns() - time.monotonic_ns())
    epochs = [epoch for epoch in trace.epochs() if not _is_unseen(epoch)]
    pages = [_pages_of(epoch, stamped.base) for epoch in epochs]
    begins = [origin_ns + epoch.started_ns - _SLACK_NS for epoch in epochs]
    ends = [origin_ns + epoch.ended_ns + _SLACK_NS for epoch in epochs]
    seen = [stamp for stamp in stamped.stamps if origin_ns < stamp[1] and stamp[2] < begins[-1]]
    assert len(seen) > _STAMPS / 2, "too little was recorded to tell anything"
    for page, began_ns, ended_ns in seen:
        last = next(index for index, begin_ns in enumerate(begins) if begin_ns >= ended_ns)
        allowed = [index for index in range(last + 2) if index < len(ends) and ends[index] >= began_ns]
        assert any(page in pages[index] for index in allowed), f"the store to page {page} is in none of {allowed}"
    for index, reported in enumerate(pages):
        # Before the first epoch the memory was armed a few milliseconds before the recording began.
        since_ns = begins[index - 1] - 2 * _SLACK_NS if index else origin_ns - 500_000_000
        until_ns = ends[index]
        explained = {page for page, began_ns, ended_ns in stamped.stamps if since_ns < ended_ns and began_ns < until_ns}
        assert reported <= explained, f"epoch {index} has pages that nobody stored to"


def _is_unseen(epoch: EpochRow) -> bool:
    """Whether it stands for the time between the last collect and the end of the process."""
    return any(spot.reason is BlindReason.NOT_FOLLOWED for spot in epoch.blind_spots)


def _pages_of(epoch: EpochRow, base: int) -> set[int]:
    part = epoch.regions.clip(base, base + _STAMPED_PAGES * PAGE_SIZE)
    return {(int(address) - base) // PAGE_SIZE for address in part.page_addresses()}


def test_a_started_program_has_the_descriptors_of_its_shell(tmp_path: Path) -> None:
    record = f"{' '.join(map(shlex.quote, PAGEWATCH))} record --force -o r --"
    script = f"{record} cat <(echo hi) && {record} sh -c 'echo three >&3; ls /proc/self/fd' 3>file"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["hi", "0", "1", "2", "3", "4"]
    assert (tmp_path / "file").read_text() == "three\n"


def test_a_started_program_s_stores_are_all_in_the_right_epochs(tmp_path: Path) -> None:
    done = pagewatch("record", "-o", tmp_path / "r", "--hz", 50, "--", *stamper_command(1), stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    trace = Trace.open(tmp_path / "r")
    assert_recorded_exactly(trace, Stamped.of_output(done.stdout))
    assert trace.complete
    assert [(row.exit_status, row.ended_reason) for row in trace.processes] == [(42, "exited with status 42")]
    assert "exited with status 42" in done.stderr
    assert f"pagewatch report {tmp_path / 'r'}" in done.stderr


@contextmanager
def recorded_stamper(path: Path, seed: int) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """A stamper that was running already, and its recorder, which has begun."""
    with (
        start(stamper_command(seed), stdin=subprocess.PIPE) as target,
        start_pagewatch("record", "-o", path, "--hz", 50, "-p", target.pid) as recorder,
    ):
        wait_until((path / "recording.jsonl").exists, "the recording")
        yield target, recorder


def test_a_running_program_s_stores_are_all_in_the_right_epochs(tmp_path: Path) -> None:
    with recorded_stamper(tmp_path / "r", 2) as (target, recorder):
        out, _ = target.communicate("go\n")
        _, said = recorder.communicate()
    assert recorder.returncode == 0, said
    assert target.returncode == 42
    trace = Trace.open(tmp_path / "r")
    assert_recorded_exactly(trace, Stamped.of_output(out))
    assert [row.pid for row in trace.processes] == [target.pid]


def numpy_program(rounds: int) -> str:
    """Source of a program that multiplies matrices: 1 or 2 ms a round."""
    return f"""
import numpy as np
a = np.random.default_rng(1).random((300, 300))
for _ in range({rounds}):
    a = a @ a.T
    a /= a.max()
print(f"{{a.sum():.12e}}")
"""


SQL = """
create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
insert into t select i, hex(i * 7919) from n;
update t set b = b || a where a % 7 = 0;
select count(*), sum(length(b)), max(b) from t;
pragma integrity_check;
"""
MORE_SQL = """
update t set b = b || b where a % 3 = 0;
select count(*), sum(length(b)), max(b) from t;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000000) select sum(i) from n;
pragma integrity_check;
"""
PROGRAMS = {
    "numpy": ([sys.executable, "-c", numpy_program(30)], ""),
    "sqlite3": (["sqlite3", ":memory:"], SQL),
    "failing": ([sys.executable, "-c", "b = bytearray(1 << 20); raise SystemExit(3)"], ""),
    "killed": (["sh", "-c", "kill -SEGV $$"], ""),
    "complaining": (["ls", "/no/such/file"], ""),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_started_program_s_output_and_status_are_unchanged(tmp_path: Path, name: str) -> None:
    command, text = PROGRAMS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs the program {command[0]}")
    plain = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    done = pagewatch("record", "-o", tmp_path / "r", "--hz", 100, "--", *command, input=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout == plain.stdout
    own_lines = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith("pagewatch: ")]
    assert "".join(own_lines) == plain.stderr
    trace = Trace.open(tmp_path / "r")
    assert trace.processes[-1].exit_status == plain.returncode
    assert trace.header.command == tuple(command)


@contextmanager
def redis(tmp_path: Path, prefix: Sequence[object] = ()) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A redis-server on a socket of its own, and how to reach it."""
    for program in ("redis-server", "redis-benchmark", "redis-cli"):
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program}")
    socket = tmp_path / "s"
    options = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", tmp_path]
    with start([*prefix, "redis-server", *options]) as server:
        try:
            wait_until(socket.exists, "redis-server's socket")
            yield server, ["-s", str(socket)]
        finally:
            subprocess.run(["redis-cli", "-s", str(socket), "shutdown", "nosave"], capture_output=True, check=False)
            server.communicate(timeout=60)


def benchmark_and_check(where: Sequence[str]) -> None:
    """Load on the server, and what it must know afterwards."""
    load = ["redis-benchmark", *where, "-n", "20000", "-r", "5000", "-q", "-t", "set,incr,lpush"]
    subprocess.run(load, check=True, capture_output=True, timeout=60)
    for key in range(100):
        subprocess.run(["redis-cli", *where, "set", f"k{key}", "v" * key], check=True, capture_output=True)
    script = "local n = 0; for i = 0, 99 do n = n + #redis.call('get', 'k' .. i) end; return n"
    answer = subprocess.run(["redis-cli", *where, "eval", script, "0"], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == str(sum(range(100)))


def test_redis_is_recorded_from_its_start(tmp_path: Path) -> None:
    record = [sys.executable, "-m", "pagewatch", "record", "-o", tmp_path / "r", "--"]
    with redis(tmp_path, record) as (recorder, where):
        benchmark_and_check(where)
    assert recorder.returncode == 0
    trace = Trace.open(tmp_path / "r")
    assert trace.complete
    assert (trace.processes[0].name, trace.processes[0].exit_status) == ("redis-server", 0)
    assert sum(epoch.regions.pages for epoch in trace.epochs()) > 500
    assert {"rw-p"} <= {row.mapping.permissions for row in trace.mappings}


def test_redis_is_recorded_while_it_runs_and_goes_on_afterwards(tmp_path: Path) -> None:
    with redis(tmp_path) as (server, where):
        with start_pagewatch("record", "-o", tmp_path / "r", "-p", server.pid) as recorder:
            wait_until((tmp_path / "r" / "recording.jsonl").exists, "the recording")
            benchmark_and_check(where)
            recorder.send_signal(signal.SIGINT)
            _, said = recorder.communicate(timeout=60)
        assert recorder.returncode == 0, said
        trace = Trace.open(tmp_path / "r")
        assert trace.ended_reason == "interrupted"
        assert sum(epoch.regions.pages for epoch in trace.epochs()) > 500
        benchmark_and_check(where)
    assert server.returncode == 0


# In two halves: a recorder attaches between them. The first half says a word when it is done; the second lasts for
# many collects, because what is written between the last one and a program's end is not recorded.
HALVES = {
    "numpy": (
        [sys.executable, "-c", f"import numpy as np\nprint('half', flush=True)\ninput()\n{numpy_program(1000)}"],
        "",
        "go on\n",
    ),
    "sqlite3": (["sqlite3", ":memory:"], SQL + "select 'half';\n", MORE_SQL),
}


@pytest.mark.parametrize("name", HALVES)
def test_a_program_attached_to_while_it_runs_ends_as_without(tmp_path: Path, name: str) -> None:
    command, first, second = HALVES[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs the program {command[0]}")
    plain = subprocess.run(command, input=first + second, capture_output=True, text=True, check=True)
    with start(command, stdin=subprocess.PIPE) as target:
        assert target.stdin is not None
        assert target.stdout is not None
        target.stdin.write(first)
        target.stdin.flush()
        seen = [target.stdout.readline()]
        while seen[-1] != "half\n":
            seen.append(target.stdout.readline())
        with start_pagewatch("record", "-o", tmp_path / "r", "--hz", 50, "-p", target.pid) as recorder:
            wait_until((tmp_path / "r" / "recording.jsonl").exists, "the recording")
            rest, complaints = target.communicate(second, timeout=100)
            _, said = recorder.communicate(timeout=60)
    assert ("".join(seen) + rest, complaints, target.returncode) == (plain.stdout, plain.stderr, 0)
    assert recorder.returncode == 0, said
    trace = Trace.open(tmp_path / "r")
    assert trace.processes[0].exit_status in (0, None), "only the parent is told on older kernels"
    assert sum(epoch.regions.pages for epoch in trace.epochs()) > 100


SLEEPER = "import time; b = bytearray(1 << 20); print('ready', flush=True); time.sleep(60)"


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[str]]:
    """A process that only waits."""
    with start([sys.executable, "-c", SLEEPER]) as target:
        assert target.stdout is not None
        target.stdout.readline()
        yield target
        target.kill()


def test_a_killed_recorder_leaves_a_readable_recording_and_an_unharmed_target(tmp_path: Path) -> None:
    journal = tmp_path / "r" / "recording.jsonl"
    with recorded_stamper(tmp_path / "r", 3) as (target, recorder):
        wait_until(lambda: journal.read_text().count('"epochs"') > 1, "a flush")
        recorder.kill()
        out, _ = target.communicate("go\n")
    assert target.returncode == 42
    assert len(Stamped.of_output(out).stamps) > _STAMPS
    trace = Trace.open(tmp_path / "r")
    assert not trace.complete
    assert trace.epoch_count == len(list(trace.epochs())) > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid():
        pytest.skip("only root can mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    with machine_lock(fcntl.LOCK_EX):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
        try:
            yield place
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_a_clear_error_and_harms_neither_program_nor_recording(small_disk: Path) -> None:
    journal = small_disk / "r" / "recording.jsonl"
    command = ["record", "-o", small_disk / "r", "--hz", 50, "--", *stamper_command(4)]
    with start_pagewatch(*command, stdin=subprocess.PIPE) as recorder:
        wait_until(lambda: journal.exists() and journal.read_text().count('"epochs"') > 1, "a flush")
        with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while filler.write(bytes(PAGE_SIZE)):
                pass
        assert recorder.stderr is not None
        said = [recorder.stderr.readline() for _ in range(3)]
        assert "the recording failed" in said[1]
        assert "No space left on device" in said[1]
        out, rest = recorder.communicate("go\n")
    assert recorder.returncode == 1
    assert "exited with status 42" in rest
    assert "No space left on device" in rest.splitlines()[-1]
    assert len(Stamped.of_output(out).stamps) > _STAMPS
    trace = Trace.open(small_disk / "r")
    assert len(list(trace.epochs())) == trace.epoch_count > 10


def test_the_duration_ends_the_recording_not_the_program(tmp_path: Path) -> None:
    program = "import time; time.sleep(1.5); print('whole'); raise SystemExit(9)"
    done = pagewatch("record", "-o", tmp_path / "r", "--duration", 0.3, "--json", "--", sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    out, summary = done.stdout.splitlines()
    assert out == "whole"
    assert json.loads(summary)["exit_status"] == 9
    trace = Trace.open(tmp_path / "r")
    assert trace.ended_ns < 1_000_000_000
    assert trace.processes[0].exit_status is None
    assert "duration" in trace.ended_reason


COUNT_SIGNALS = """
import signal, sys, time
got = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda n, _: got.append(n))
print("ready", flush=True)
while not got:
    time.sleep(0.01)
time.sleep(0.3)
print(len(got), flush=True)
sys.exit(5)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_recorder_is_passed_on_once_and_the_end_is_recorded(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", COUNT_SIGNALS]
    with start_pagewatch("record", "-o", tmp_path / "r", "--", *command, start_new_session=True) as recorder:
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == "ready\n"
        recorder.send_signal(number)
        out, said = recorder.communicate(timeout=60)
    assert recorder.returncode == 0, said
    assert out == "1\n"
    trace = Trace.open(tmp_path / "r")
    assert trace.processes[0].exit_status == 5


def test_a_program_that_ignores_the_signal_does_not_hold_the_recorder(tmp_path: Path) -> None:
    deaf = "import signal, os, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    with start_pagewatch(
        "record", "-o", tmp_path / "r", "--", sys.executable, "-c", deaf, start_new_session=True
    ) as recorder:
        assert recorder.stdout is not None
        pid = int(recorder.stdout.readline())
        recorder.terminate()
        assert recorder.stderr is not None
        said = recorder.stderr.read() if recorder.wait(timeout=60) else ""
        try:
            assert recorder.returncode == 0, said
            assert is_running(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
    assert Trace.open(tmp_path / "r").ended_reason == "ended by SIGTERM"


def test_a_shell_that_execs_is_recorded_on(tmp_path: Path) -> None:
    done = pagewatch("record", "-o", tmp_path / "r", "--hz", 50, "--", "sh", "-c", "exec sleep 0.7")
    assert done.returncode == 0, done.stderr
    trace = Trace.open(tmp_path / "r")
    assert [(row.name, row.ended_reason) for row in trace.processes] == [
        ("sh", "replaced its program by exec"),
        ("sleep", "exited with status 0"),
    ]


def test_a_program_behind_wrappers_that_replace_each_other_is_recorded(tmp_path: Path) -> None:
    """Each exec falls into the attaching after the one before, however long that takes."""
    wrapper = """
i=$1; shift
[ "$i" = 0 ] && exec "$@"
sleep 0.03
exec sh "$0" $((i - 1)) "$@"
"""
    script = tmp_path / "wrapper"
    script.write_text(wrapper)
    program = (sys.executable, "-c", "import time; time.sleep(1); raise SystemExit(7)")
    done = pagewatch("record", "-o", tmp_path / "r", "--hz", 20, "--", "sh", script, 12, *program)
    assert done.returncode == 0, done.stderr
    trace = Trace.open(tmp_path / "r")
    assert trace.ended_reason.endswith("exited with status 7")
    assert not [note.text for note in trace.notes if "could not" in note.text or "before it could" in note.text]
    assert sum(epoch.started_ns < epoch.ended_ns for epoch in trace.epochs()) > 5


def test_a_program_that_ends_is_never_taken_for_one_that_execs(tmp_path: Path) -> None:
    """Freeing a lot of memory takes time, in which a process has neither memory nor ended."""
    program = "b = bytearray(300 << 20); raise SystemExit(4)"
    done = pagewatch("record", "-o", tmp_path / "r", "--hz", 1000, "--", sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    assert [row.exit_status for row in Trace.open(tmp_path / "r").processes] == [4]


def test_the_default_name_never_overwrites(tmp_path: Path) -> None:
    with sleeper() as target:
        for _ in range(2):
            done = pagewatch("record", "--duration", 0.2, "-p", target.pid, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2
    assert all(name.startswith("pagewatch-") and str(target.pid) in name for name in names)
    assert all(Trace.open(tmp_path / name).complete for name in names)


def test_force_replaces_a_recording_only_once_the_new_one_begins(tmp_path: Path) -> None:
    assert pagewatch("record", "-o", tmp_path / "r", "true").returncode == 0
    assert pagewatch("record", "-o", tmp_path / "r", "--force", "no-such-program").returncode == 1
    assert Trace.open(tmp_path / "r").header.command == ("true",)
    assert pagewatch("record", "-o", tmp_path / "r", "--force", "false").returncode == 0
    assert Trace.open(tmp_path / "r").header.command == ("false",)


def test_the_program_keeps_its_signal_dispositions(tmp_path: Path) -> None:
    show = "grep -E '^Sig(Ign|Blk|Cgt)' /proc/self/status"
    plain = subprocess.run(["sh", "-c", show], capture_output=True, text=True, check=True)
    done = pagewatch("record", "-o", tmp_path / "r", "--", "sh", "-c", show)
    assert done.stdout == plain.stdout
