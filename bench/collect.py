"""collect() of a 2 GiB array of 4 KiB pages, against the raw ioctl in C on the same memory."""

import ctypes
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from figures import Figure, ratio_of

import pagewatch
from pagewatch.linux.pagemap import PagemapScanner
from pagewatch.vocab.regions import REGION

_BYTES = 2 << 30
_PAGE = 4096
_PAGES = _BYTES // _PAGE
_MADV_NOHUGEPAGE = 15
# Where an array and its page tables happen to lie in physical memory moves the ratio by a few hundredths.
_ARRAYS = 3


def build_floor(directory: Path) -> ctypes.CDLL:
    """The C floor, compiled now."""
    directory.mkdir(parents=True, exist_ok=True)
    library = directory / "floor.so"
    source = Path(__file__).parent / "floor.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    floor = ctypes.CDLL(str(library))
    floor.floor_collect.restype = floor.floor_compare.restype = ctypes.c_uint64
    return floor


def _small_page_array() -> np.ndarray:
    array = np.empty(_BYTES + _PAGE, np.uint8)
    skip = -array.ctypes.data % _PAGE
    array = array[skip : skip + _BYTES]
    ctypes.CDLL(None).madvise(ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(_BYTES), _MADV_NOHUGEPAGE)
    array[::_PAGE] = 1
    return array


class _Bench:
    def __init__(self, floor: ctypes.CDLL) -> None:
        self.floor = floor
        self.array = _small_page_array()
        self.base = self.array.ctypes.data
        self.vector = np.zeros(_PAGES, REGION)
        self.raw = PagemapScanner()
        self.found = ctypes.c_int64()

    def dirty(self, offsets: np.ndarray, value: int) -> None:
        self.floor.floor_dirty(
            ctypes.c_void_p(self.base), ctypes.c_void_p(offsets.ctypes.data), ctypes.c_uint64(len(offsets)), value
        )

    def floor_ns(self) -> int:
        return self.floor.floor_collect(
            self.raw._fd,
            ctypes.c_uint64(self.base),
            ctypes.c_uint64(self.base + _BYTES),
            ctypes.c_void_p(self.vector.ctypes.data),
            ctypes.c_uint64(len(self.vector)),
            ctypes.byref(self.found),
        )

    def compare(self, tracker: pagewatch.Tracker, offsets: np.ndarray, rounds: int) -> tuple[list[int], list[int]]:
        """Nanoseconds of collect() and of the floor, in turn, over the same number of written pages."""
        ours, floor = [], []
        for turn in range(rounds + 3):
            self.dirty(offsets, turn)
            started = time.perf_counter_ns()
            epoch = tracker.collect()
            took = time.perf_counter_ns() - started
            assert epoch.regions.pages == len(offsets), (epoch.regions.pages, len(offsets))
            self.dirty(offsets, turn)
            raw = self.floor_ns()
            assert self.found.value == len(epoch.regions), (self.found.value, len(epoch.regions))
            if turn >= 3:
                ours.append(took)
                floor.append(raw)
        return ours, floor


def measure(build: Path) -> list[Figure]:
    """The three densities, and comparing with a copy."""
    floor = build_floor(build)
    random = np.random.default_rng(0)
    one_percent = np.sort(random.choice(_PAGES, _PAGES // 100, replace=False)).astype(np.uint64) * np.uint64(_PAGE)
    every_second = np.arange(0, _BYTES, 2 * _PAGE, dtype=np.uint64)
    cases: list[tuple[str, np.ndarray, int, float]] = [
        ("idle", np.empty(0, np.uint64), 100, 1.10),
        ("1 % random pages", one_percent, 30, 1.15),
        ("every second page", every_second, 8, 1.30),
    ]
    samples: dict[str, tuple[list[int], list[int]]] = {name: ([], []) for name, *_ in cases}
    for _ in range(_ARRAYS):
        bench = _Bench(floor)
        with pagewatch.track(bench.array) as tracker:
            for name, offsets, rounds, _limit in cases:
                for kept, measured in zip(samples[name], bench.compare(tracker, offsets, rounds), strict=True):
                    kept.extend(measured)
    figures = []
    for name, _, _, limit in cases:
        ours, raw = samples[name]
        note = f"{median(ours) / 1e6:.3f} ms / raw ioctl {median(raw) / 1e6:.3f} ms"
        figures.append(Figure(f"collect() of 2 GiB, {name}", ratio_of(ours, raw), "×", limit, floor=note))
    figures.append(_against_copy(bench, median(samples["idle"][0])))
    with pagewatch.track(bench.array) as tracker:
        figures.append(_first_write(bench, tracker))
    return figures


def _against_copy(bench: _Bench, idle_ns: float) -> Figure:
    copy = bench.array.copy()
    differs = ctypes.c_int()
    compared: Callable[[], int] = lambda: bench.floor.floor_compare(  # noqa: E731 - a timing expression
        ctypes.c_void_p(bench.base), ctypes.c_void_p(copy.ctypes.data), ctypes.c_uint64(_BYTES), ctypes.byref(differs)
    )
    compare_ns = median([compared() for _ in range(5)])
    assert not differs.value
    note = f"memcmp with a copy {compare_ns / 1e6:.0f} ms / collect() {idle_ns / 1e6:.3f} ms"
    return Figure("idle collect() faster than comparing by", compare_ns / idle_ns, "×", 100, at_least=True, floor=note)


def _first_write(bench: _Bench, tracker: pagewatch.Tracker) -> Figure:
    offsets = np.arange(0, _BYTES, _PAGE, dtype=np.uint64)[: 1 << 17]
    tracker.collect()
    took = []
    for turn in range(5):
        started = time.perf_counter_ns()
        bench.dirty(offsets, turn)
        took.append(time.perf_counter_ns() - started)
        tracker.collect()
    return Figure("first write to an armed page", median(took) / len(offsets) / 1e3, "us")
