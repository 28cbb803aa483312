"""Soak: writers stamp pages while collects run and the memory changes under both; no write may be lost.

The judge's copy of the truth is a log that the writers keep in memory of their own (see writer.c): per page, how
many stores were begun and how many finished. For a page and an epoch:

* lost: the page is not reported, although a store begun after the collect that last reported it had finished
  before this collect began;
* false: the page is reported, although no store was begun that had not finished before the previous collect.

``make soak`` runs it for minutes, the tests for seconds.
"""

import argparse
import ctypes
import json
import mmap
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import pagewatch
from pagewatch import Query, Regions
from pagewatch.vocab.addresses import PAGE_SIZE

_HEADER = np.dtype(
    [(name, "<u8") for name in ("ready", "area", "spare", "writes", "events", "stop", "forks", "corrupt")]
)
_ENTRY = np.dtype([("begun", "<u8"), ("finished", "<u8")])
_WRITTEN = Query.where("written")
_PAGES = 4096
_THREADS = 3


@dataclass
class Verdict:
    """What a soak saw."""

    seconds: float = 0.0
    address_spaces: int = 0
    writes: int = 0
    memory_changes: int = 0
    forks: int = 0
    epochs: int = 0
    pages_reported: int = 0
    lost: int = 0
    false: int = 0
    corrupt: int = 0

    @property
    def ok(self) -> bool:
        """Nothing lost, invented or damaged, and enough happened to say so."""
        return not (self.lost or self.false or self.corrupt) and self.writes > 0 and self.epochs > 0


class Log:
    """The writers' account of their own stores, in shared memory that nobody tracks."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("soak-log")
        os.ftruncate(self.fd, _HEADER.itemsize + _PAGES * _ENTRY.itemsize)
        self._memory = mmap.mmap(self.fd, 0)
        self.header = np.frombuffer(self._memory, _HEADER, count=1)[0:1]
        self.entries = np.frombuffer(self._memory, _ENTRY, offset=_HEADER.itemsize)

    def value(self, name: str) -> int:
        return int(self.header[name][0])

    def close(self) -> None:
        del self.header, self.entries
        self._memory.close()
        os.close(self.fd)


class ProgramWriter:
    """Writers in another program, found and armed from outside, with all the rest of its memory."""

    def __init__(self, build: Path, log: Log, seed: int) -> None:
        binary = _compile(build / "writer", [])
        self._popen = subprocess.Popen(
            [binary, str(log.fd), str(_PAGES), str(_THREADS), str(seed)], pass_fds=[log.fd], stdin=subprocess.PIPE
        )
        _wait_until_ready(log)
        self.process = pagewatch.Process(self._popen.pid)
        self.process.attach()
        self.tracker = pagewatch.track(self.process)

    def go(self) -> None:
        assert self._popen.stdin
        self._popen.stdin.write(b"g")
        self._popen.stdin.flush()

    def stop(self) -> int:
        assert self._popen.stdin
        self._popen.stdin.close()
        return self._popen.wait(timeout=60)

    def close(self) -> None:
        self.tracker.close()
        self.process.close()


class OwnWriter:
    """Writers in threads of this very process, beside the tracker; only their area is tracked."""

    def __init__(self, build: Path, log: Log, seed: int) -> None:
        library = ctypes.CDLL(str(_compile(build / "writer.so", ["-shared", "-fPIC"])))
        control, self._control = os.pipe()
        arguments = (control, log.fd, ctypes.c_uint64(_PAGES), ctypes.c_uint64(_THREADS), ctypes.c_uint64(seed))
        self._code = -1
        self._thread = threading.Thread(target=self._run, args=(library, control, arguments))
        self._thread.start()
        _wait_until_ready(log)
        self.process = pagewatch.Process()
        start = log.value("area")
        self.tracker = pagewatch.track((start, start + _PAGES * PAGE_SIZE))

    def _run(self, library: ctypes.CDLL, control: int, arguments: Sequence[object]) -> None:
        self._code = library.run(*arguments)
        os.close(control)

    def go(self) -> None:
        os.write(self._control, b"g")

    def stop(self) -> int:
        os.close(self._control)
        self._thread.join(60)
        return self._code

    def close(self) -> None:
        self.tracker.close()
        self.process.close()


class Judge:
    """Holds the epochs of one address space against its log."""

    def __init__(self, log: Log, verdict: Verdict) -> None:
        self._log = log
        self._verdict = verdict
        self._begun_when_last_reported = np.zeros(_PAGES, np.uint64)
        self._finished_before_previous = np.zeros(_PAGES, np.uint64)

    def finished(self) -> np.ndarray:
        """Stores finished by now; asked right before a collect."""
        return self._log.entries["finished"].copy()

    def hold(self, regions: Regions, finished_before: np.ndarray) -> None:
        """Judge one epoch, right after its collect."""
        begun_after = self._log.entries["begun"].copy()
        start = self._log.value("area")
        addresses = regions.clip(start, start + _PAGES * PAGE_SIZE).page_addresses()
        reported = np.zeros(_PAGES, np.bool_)
        reported[((addresses - np.uint64(start)) // np.uint64(PAGE_SIZE)).astype(np.int64)] = True
        verdict = self._verdict
        verdict.lost += int((~reported & (finished_before > self._begun_when_last_reported)).sum())
        verdict.false += int((reported & (begun_after <= self._finished_before_previous)).sum())
        verdict.pages_reported += int(reported.sum())
        verdict.epochs += 1
        self._begun_when_last_reported[reported] = begun_after[reported]
        self._finished_before_previous = finished_before


class Soaked:
    """One address space of the soak: writers, tracker, judge."""

    def __init__(self, writer: ProgramWriter | OwnWriter, log: Log, verdict: Verdict) -> None:
        self.writer = writer
        self.log = log
        self.judge = Judge(log, verdict)

    def epoch(self, collect: "Collect") -> None:
        """Collect once and judge it."""
        finished_before = self.judge.finished()
        self.judge.hold(collect(self), finished_before)

    @property
    def area(self) -> tuple[int, int]:
        """The memory that is judged."""
        start = self.log.value("area")
        return start, start + _PAGES * PAGE_SIZE


Collect = Callable[[Soaked], Regions]
"""A way to read what was written and re-arm it."""


def at_random_limits(choose: random.Random) -> Collect:
    """By the tracker, or by scans of the same memory that stop at random limits."""

    def collect(one: Soaked) -> Regions:
        if choose.random() < 0.5:
            return one.writer.tracker.collect().regions
        found = Regions()
        position, end = one.area
        while position < end:
            scan = one.writer.process.scan(
                position,
                end,
                _WRITTEN,
                protect=True,
                require_armed=True,
                max_pages=choose.choice((0, 1, 7, 511, 513)),
                max_regions=choose.choice((None, 1, 3, 100)),
            )
            found = found | scan.regions
            position = scan.walk_end
        return found

    return collect


def soak(
    *, seconds: float, build: Path, seed: int = 1, collect: Collect | None = None, progress: bool = False
) -> Verdict:
    """Writers of two other programs and of this process, collected for that long.

    :param collect: how; by default at random limits.

    :raises RuntimeError: a writer ended with an error: tracking has harmed it.
    """
    verdict = Verdict()
    collect = collect or at_random_limits(random.Random(seed))
    build.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        everyone: list[Soaked] = []
        for number, kind in enumerate((OwnWriter, ProgramWriter, ProgramWriter)):
            log = Log()
            stack.callback(log.close)
            writer = kind(build, log, seed * 10 + number)
            stack.callback(writer.close)
            writer.tracker.arm()
            everyone.append(Soaked(writer, log, verdict))
        verdict.address_spaces = len(everyone)
        for one in everyone:
            one.writer.go()
        _collect_for(seconds, everyone, collect, verdict, progress=progress)
        for one in everyone:
            one.log.header["stop"][0] = 1
        time.sleep(0.05)
        for one in everyone:
            one.epoch(collect)
            verdict.writes += one.log.value("writes")
            verdict.memory_changes += one.log.value("events")
            verdict.forks += one.log.value("forks")
            verdict.corrupt += one.log.value("corrupt")
            code = one.writer.stop()
            if code:
                raise RuntimeError(f"a writer ended with {code}: tracking has harmed it")
    return verdict


def _collect_for(seconds: float, everyone: list[Soaked], collect: Collect, verdict: Verdict, *, progress: bool) -> None:
    began = shown = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        for one in everyone:
            one.epoch(collect)
        if progress and now - shown > 1:
            shown = now
            writes = sum(one.log.value("writes") for one in everyone)
            sys.stderr.write(
                f"\r{now - began:6.0f} s  {writes:,} writes  {verdict.epochs:,} epochs  {verdict.lost} lost "
            )
            sys.stderr.flush()
    verdict.seconds = time.monotonic() - began


def _compile(target: Path, flags: list[str]) -> Path:
    source = Path(__file__).parent / "writer.c"
    subprocess.run(["gcc", "-O2", "-pthread", *flags, "-o", target, source], check=True)
    return target


def _wait_until_ready(log: Log) -> None:
    deadline = time.monotonic() + 30
    while not log.value("ready"):
        if time.monotonic() > deadline:
            raise RuntimeError("the writer did not start")
        time.sleep(0.001)


def main() -> int:
    """Exit code 1 if a write was lost, invented or damaged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--build", type=Path, default=Path("build"))
    arguments = parser.parse_args()
    verdict = soak(seconds=arguments.seconds, build=arguments.build, seed=arguments.seed, progress=sys.stderr.isatty())
    print(json.dumps({"seed": arguments.seed, **asdict(verdict)}))
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
