"""What recording costs: processor time for an idle process of 1 GiB, memory over 10,000 epochs."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figures import Figure

from pagewatch.trace import Trace

_IDLE = """
import mmap, signal, sys
memory = mmap.mmap(-1, 1 << 30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.madvise(mmap.MADV_NOHUGEPAGE if {small} else mmap.MADV_HUGEPAGE)
for offset in range(0, 1 << 30, mmap.PAGESIZE):
    memory[offset] = 1
print("ready", flush=True)
signal.pause()
"""
_BUSY = """
import mmap, random, sys, time
memory = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
print("ready", flush=True)
while True:
    for _ in range(20):
        memory[random.randrange(64 << 20)] = 1
    time.sleep(0.001)
"""
_IDLE_SECONDS = 10.0
_EPOCHS = 10_000
_BUSY_HZ = 500


@contextmanager
def _running(program: str) -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as target:
        assert target.stdout is not None
        target.stdout.readline()
        yield target.pid
        target.kill()


@contextmanager
def _recorder(path: Path, pid: int, hz: float) -> Iterator[int]:
    command = [sys.executable, "-m", "pagewatch", "record", "-o", path, "--hz", str(hz), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as recorder:
        while not (path / "recording.jsonl").exists():
            time.sleep(0.05)
        yield recorder.pid
        recorder.send_signal(signal.SIGINT)


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _idle_percent(directory: Path, *, small: bool) -> float:
    """Of one core, while nothing is written."""
    with (
        _running(_IDLE.format(small=small)) as target,
        _recorder(directory / f"idle-{small}", target, 10.0) as recorder,
    ):
        time.sleep(1.5)
        before, started = _processor_seconds(recorder), time.perf_counter()
        time.sleep(_IDLE_SECONDS)
        return 100 * (_processor_seconds(recorder) - before) / (time.perf_counter() - started)


def _growth_mib(directory: Path) -> tuple[float, int]:
    """Memory that the last nine tenths of the epochs added, and how many epochs there were."""
    path = directory / "busy"
    with _running(_BUSY) as target, _recorder(path, target, _BUSY_HZ) as recorder:
        time.sleep(0.1 * _EPOCHS / _BUSY_HZ)
        early = _resident_mib(recorder)
        while Trace.open(path).epoch_count < _EPOCHS:
            time.sleep(1.0)
        late = _resident_mib(recorder)
    return late - early, Trace.open(path).epoch_count


def measure(build: Path) -> list[Figure]:
    """Both figures; recordings go below ``build`` and are removed."""
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as name:
        directory = Path(name)
        percents = {small: _idle_percent(directory, small=small) for small in (True, False)}
        growth, n_epochs = _growth_mib(directory)
    return [
        Figure("record an idle 1 GiB process at 10 Hz, 4 KiB pages", percents[True], "% core", 2.0),
        Figure("record an idle 1 GiB process at 10 Hz, huge pages", percents[False], "% core", 2.0),
        Figure("recorder memory, growth", growth, "MiB", 4.0, floor=f"{n_epochs} epochs at {_BUSY_HZ} Hz"),
    ]
