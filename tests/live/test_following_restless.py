"""A program whose mappings come, go, move and change all the time: no write of it is lost, or left unnamed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pagewatch
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.blindspots import BlindReason
from support.needs import requires

pytestmark = [pytest.mark.live, requires("attach", "uffd_wp_async", "pagemap_scan")]

_SOURCE = Path(__file__).parents[1] / "support" / "restless.c"
_START = 0x20000000000
_END = _START + 12 * 16 * PAGE_SIZE
_TOLD = (BlindReason.MAPPED_LATE, BlindReason.UNMAPPED, BlindReason.NOT_WRITABLE, BlindReason.REFUSED)
_NOTHING = bytes(8)


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler for the program to track (apt-get install gcc libc6-dev)")
    program = tmp_path_factory.mktemp("restless") / "restless"
    subprocess.run([compiler, "-O1", "-o", program, _SOURCE], check=True)
    return program


class Copy:
    """A copy of the program's memory, kept by nothing but epochs and the blind spots that they name."""

    def __init__(self, pid: int) -> None:
        self._memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        self._stamps: dict[int, bytes | None] = {}

    def update(self, epoch: pagewatch.Epoch, *, by_spots: bool = True) -> None:
        pages = {int(address) for address in epoch.regions.clip(_START, _END).page_addresses()}
        if by_spots:
            for spot in epoch.blind_spots:
                if spot.reason in _TOLD:
                    pages.update(range(max(spot.start, _START), min(spot.end, _END), PAGE_SIZE))
        self._stamps.update((page, self._read(page)) for page in pages)

    def stale(self) -> list[str]:
        """Pages whose bytes have changed, and nobody told."""
        now = {page: self._read(page) for page in range(_START, _END, PAGE_SIZE)}
        return [
            hex(page)
            for page, stamp in now.items()
            if stamp is not None and stamp != (self._stamps.get(page) or _NOTHING)
        ]

    def _read(self, page: int) -> bytes | None:
        try:
            return os.pread(self._memory, 8, page)
        except OSError:
            return None

    def close(self) -> None:
        os.close(self._memory)


@contextmanager
def _running(program: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [program, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("seed", range(12))
def test_no_write_is_lost_or_left_unnamed_while_mappings_come_go_and_move(restless: Path, seed: int) -> None:
    pause_us = (0, 50, 500, 3000)[seed % 4]
    with (
        _running(restless, seed, 600, pause_us) as program,
        pagewatch.Process(program.pid) as process,
        process.attach(),
        pagewatch.track(process) as tracker,
    ):
        copy = Copy(program.pid)
        try:
            os.write(program.stdin.fileno(), b"x")
            os.set_blocking(program.stdout.fileno(), False)
            while program.stdout.read() is None:
                copy.update(tracker.collect())
            os.set_blocking(program.stdout.fileno(), True)
            for _ in range(3):
                copy.update(tracker.collect())
            assert copy.stale() == []
            # Nothing moves any more: from here on each page must be found exactly.
            os.write(program.stdin.fileno(), b"x")
            assert program.stdout.readline() == b"stamped\n"
            copy.update(tracker.collect(), by_spots=False)
            assert copy.stale() == []
        finally:
            copy.close()
