"""Recordings made up for tests: plain values in memory, and the same as files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pagewatch.trace import EpochRow, Header, MappingRow, Note, ProcessRow, TraceWriter
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions

PAGE = 4096
SECOND_NS = 1_000_000_000
HOSTILE_NAME = "/srv/</script><img src=x onerror=document.title='owned'>&quot;\u202egnp.\x1b[31m\x00\n'\"`${7*7}{{7*7}}"
"""A mapping's name with what breaks HTML, scripts, templates, terminals and reading order."""


@dataclass(frozen=True)
class PlainRecording:
    """A recording in memory."""

    header: Header
    processes: Sequence[ProcessRow] = ()
    mappings: Sequence[MappingRow] = ()
    all_epochs: Sequence[EpochRow] = ()
    notes: Sequence[Note] = ()
    complete: bool = True
    ended_reason: str = "the program ended"
    ended_ns: int = 0

    def epochs(self) -> Iterator[EpochRow]:
        return iter(self.all_epochs)


def header(**changes: object) -> Header:
    values: dict[str, object] = {
        "version": 1,
        "created_unix_s": 1_700_000_000.0,
        "command": ("sort", "numbers.txt"),
        "method": "uffd-async",
        "hz": 10.0,
        "page_size": PAGE,
        "kernel": "6.12.1",
        "machine": "x86_64",
    }
    return Header(**(values | changes))


def process(pid: int = 100, name: str = "sort", first_ns: int = 0, last_ns: int = 0) -> ProcessRow:
    return ProcessRow(pid, 1, name, first_ns, last_ns, 0, "exited")


def mapping(
    start_page: int,
    end_page: int,
    name: str = "",
    *,
    pid: int = 100,
    permissions: str = "rw-p",
    first_ns: int = 0,
    last_ns: int | None = None,
) -> MappingRow:
    value = Mapping(start=start_page * PAGE, end=end_page * PAGE, permissions=permissions, name=name)
    return MappingRow(pid, value, first_ns, last_ns)


def regions(pages: Sequence[int] | np.ndarray) -> Regions:
    return Regions.from_pages(np.asarray(pages, np.uint64) * np.uint64(PAGE), page_size=PAGE)


def epoch(
    index: int,
    pages: Sequence[int] | np.ndarray,
    *,
    pid: int = 100,
    ended_ns: int | None = None,
    assumed: Sequence[int] = (),
    blind_spots: tuple[BlindSpot, ...] = (),
) -> EpochRow:
    end = (index + 1) * SECOND_NS // 10 if ended_ns is None else ended_ns
    return EpochRow(pid, index, end - 1000, end, regions(pages), regions(assumed), blind_spots)


def write(recording: PlainRecording, path: Path, *, end: bool = True) -> Path:
    """The recording as files; with ``end=False`` it breaks off without an end."""
    events = [(row.first_ns, 1, row) for row in recording.processes]
    events += [(row.ended_ns, 3, row) for row in recording.all_epochs]
    changes = {(row.pid, t) for row in recording.mappings for t in (row.first_ns, row.last_ns) if t is not None}
    events += [(at_ns, 2, pid) for pid, at_ns in changes]
    events += [(note.at_ns, 4, note) for note in recording.notes]
    events += [(row.last_ns, 5, row) for row in recording.processes if row.ended_reason]
    path.mkdir(parents=True, exist_ok=True)
    with TraceWriter(path, recording.header) as writer:
        for at_ns, kind, row in sorted(events, key=lambda event: event[:2]):
            match kind:
                case 1:
                    writer.process_started(at_ns, row.pid, parent_pid=row.parent_pid, name=row.name)
                case 2:
                    writer.mappings(row, _mapped(recording, row, at_ns), first_ns=at_ns, last_ns=at_ns)
                case 3:
                    writer.epoch(row)
                case 4:
                    writer.note(at_ns, row.text)
                case 5:
                    writer.process_ended(at_ns, row.pid, exit_status=row.exit_status, reason=row.ended_reason)
        if end:
            writer.end(max((event[0] for event in events), default=0), recording.ended_reason)
    return path


def _mapped(recording: PlainRecording, pid: int, at_ns: int) -> list[Mapping]:
    return [
        row.mapping
        for row in recording.mappings
        if row.pid == pid and row.first_ns <= at_ns and (row.last_ns is None or row.last_ns > at_ns)
    ]


@dataclass
class Lively:
    """A made-up program: a big array sorted in place, a heap that grows, a ring buffer, a worker process."""

    n_epochs: int = 120
    name: str = "/srv/ring"
    seed: int = 7
    main: int = 4211
    worker: int = 4212
    array_page: int = 0x7F2A_4000_0
    heap_page: int = 0x5581_0A00_0
    epochs: list[EpochRow] = field(default_factory=list)

    def recording(self) -> PlainRecording:
        rng = np.random.default_rng(self.seed)
        end_ns = (self.n_epochs + 1) * SECOND_NS // 10
        pinned = BlindSpot(
            (self.array_page - 8) * PAGE, self.array_page * PAGE, BlindReason.PINNED, "io_uring of process 4211"
        )
        file = BlindSpot(
            (self.array_page + 20000) * PAGE, (self.array_page + 20512) * PAGE, BlindReason.FILE_CONTENT, self.name
        )
        heap = [64 + 12 * i for i in range(self.n_epochs)]
        for i in range(self.n_epochs):
            at_ns = (i + 1) * SECOND_NS // 10
            self.epochs.append(
                epoch(
                    i,
                    self._main_pages(i, heap[i], rng),
                    pid=self.main,
                    ended_ns=at_ns,
                    assumed=[self.array_page - 3],
                    blind_spots=(pinned, file),
                )
            )
            if self.n_epochs // 3 <= i < 5 * self.n_epochs // 6:
                pages = self.heap_page + rng.choice(600, 200, replace=False)
                self.epochs.append(epoch(i - self.n_epochs // 3, pages, pid=self.worker, ended_ns=at_ns + 900_000))
        processes = [
            ProcessRow(self.main, 1, "python3", 0, end_ns, 0, "exited"),
            ProcessRow(self.worker, self.main, "worker", *self._worker_life(), -9, "was killed by SIGKILL"),
        ]
        ends_ns = {row.pid: row.last_ns for row in processes}
        return PlainRecording(
            header=header(command=("python3", "sort.py", "--size", "64M")),
            processes=processes,
            # A process takes its mappings with it.
            mappings=[replace(row, last_ns=row.last_ns or ends_ns[row.pid]) for row in self._mappings(heap)],
            all_epochs=self.epochs,
            ended_ns=end_ns,
            notes=[Note(SECOND_NS, f"process {self.worker} was forked by {self.main}")],
        )

    def _worker_life(self) -> tuple[int, int]:
        tenth_ns = SECOND_NS // 10
        return self.n_epochs // 3 * tenth_ns, 5 * self.n_epochs // 6 * tenth_ns + tenth_ns // 2

    def _main_pages(self, i: int, heap_pages: int, rng: np.random.Generator) -> np.ndarray:
        size, phase = 16384, i / self.n_epochs
        sweep = self.array_page + (np.arange(600) + int(phase * 5 % 1 * size)) % size
        pivot = self.array_page + np.minimum((rng.normal(0.5, 0.12, 150) % 1 * size).astype(int), size - 1)
        heap = self.heap_page + heap_pages - 1 - np.minimum(rng.geometric(0.02, 60), heap_pages - 1)
        ring = self.array_page + 20000 + (np.arange(40) + 37 * i) % 512
        fixed = [self.array_page - 3, 0x7FFE_1234_0, 0x7FFE_1234_1, 0x7F2A_6000_0]
        libs = [0x7F2A_6100_0 + 600 * k for k in range(12) if i == 0 or rng.random() < 0.1]
        return np.concatenate([sweep, pivot, heap, ring, fixed, libs])

    def _mappings(self, heap: list[int]) -> Iterator[MappingRow]:
        for i, n_pages in enumerate(heap):
            gone = None if i + 1 == len(heap) else (i + 1) * SECOND_NS // 10
            yield mapping(
                self.heap_page,
                self.heap_page + n_pages,
                "[heap]",
                pid=self.main,
                first_ns=i * SECOND_NS // 10,
                last_ns=gone,
            )
        born_ns, _ = self._worker_life()
        yield mapping(self.heap_page, self.heap_page + 1024, "[heap]", pid=self.worker, first_ns=born_ns)
        yield mapping(self.array_page - 8, self.array_page, "", pid=self.main, permissions="rw-s")
        yield mapping(self.array_page, self.array_page + 16384, "", pid=self.main)
        yield mapping(
            self.array_page + 17000,
            self.array_page + 19000,
            "/usr/lib/locale/C.utf8/LC_CTYPE",
            pid=self.main,
            permissions="r--p",
        )
        yield mapping(self.array_page + 20000, self.array_page + 20512, self.name, pid=self.main, permissions="rw-s")
        yield mapping(0x7F2A_6000_0, 0x7F2A_6000_9, "/usr/lib/x86_64-linux-gnu/libc.so.6", pid=self.main)
        for k in range(12):
            yield mapping(
                0x7F2A_6100_0 + 600 * k,
                0x7F2A_6100_2 + 600 * k,
                f"/usr/lib/python3/lib-dynload/_module{k}.cpython-311-x86_64-linux-gnu.so",
                pid=self.main,
            )
        yield mapping(0x7FFE_1234_0 - 31, 0x7FFE_1234_2, "[stack]", pid=self.main)
