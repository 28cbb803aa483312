"""Small recordings with known content, and strategies for random ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from pagewatch.trace import EpochRow, Header, Note, TraceWriter
from pagewatch.vocab.blindspots import BlindReason, BlindSpot
from pagewatch.vocab.categories import Category
from pagewatch.vocab.mapping import Mapping
from pagewatch.vocab.regions import Regions

PAGE = 4096
HEADER = Header(
    version=1,
    created_unix_s=1_700_000_000.25,
    command=("redis-server", "--port", "7777"),
    method="uffd-async",
    hz=10.0,
    page_size=PAGE,
    kernel="6.12.1",
    machine="x86_64",
)
HEAP = Mapping(0x10000, 0x50000, "rw-p", name="[heap]", flags=frozenset({"rd", "wr", "uw"}))
FILE = Mapping(0x7F0000000000, 0x7F0000010000, "r--s", 0x1000, "fe:01", 42, "/srv/data \x1b[31m<b>", PAGE, None)
PINNED = BlindSpot(0x10000, 0x11000, BlindReason.PINNED, "io_uring")


@dataclass(frozen=True)
class Sample:
    """What was written into a recording."""

    epochs: tuple[EpochRow, ...]
    notes: tuple[Note, ...]


def pages(*numbers: int, categories: Category = Category.WRITTEN) -> Regions:
    """The pages with these numbers."""
    return Regions.from_pages([number * PAGE for number in numbers], categories, page_size=PAGE)


def epoch(index: int, regions: Regions, *spots: BlindSpot, pid: int = 500, assumed: Regions | None = None) -> EpochRow:
    """An epoch 0.1 s long."""
    started_ns = (index + 1) * 100_000_000
    nothing = Regions(page_size=PAGE)
    return EpochRow(pid, index, started_ns, started_ns + 50_000, regions, assumed or nothing, spots)


SAMPLE = Sample(
    epochs=(
        epoch(0, pages(16, 17, 18, 40)),
        epoch(1, pages(), PINNED),
        epoch(2, pages(17, 19), PINNED),
        epoch(0, pages(3), pid=501, assumed=pages(3)),
        epoch(3, pages(16)),
    ),
    notes=(Note(200_000_000, "process 501 came"), Note(300_000_000, "a note \N{SNOWMAN}")),
)


def write_sample(path: Path, *, end: bool = True) -> Sample:
    """Write SAMPLE in several commits: two processes, a mapping that goes, notes, blind spots."""
    path.mkdir()
    with TraceWriter(path, HEADER) as writer:
        writer.process_started(0, 500, parent_pid=1, name="redis-server")
        writer.mappings(500, [HEAP, FILE], first_ns=0, last_ns=0)
        writer.epoch(SAMPLE.epochs[0])
        writer.flush()
        writer.note(*SAMPLE.notes[0])
        writer.process_started(200_000_000, 501, parent_pid=500, name="child")
        writer.epoch(SAMPLE.epochs[1])
        writer.mappings(500, [HEAP], first_ns=300_000_000, last_ns=300_050_000)
        writer.epoch(SAMPLE.epochs[2])
        writer.epoch(SAMPLE.epochs[3])
        writer.flush()
        writer.process_ended(350_000_000, 501, exit_status=-9, reason="was ended by SIGKILL")
        writer.note(*SAMPLE.notes[1])
        writer.epoch(SAMPLE.epochs[4])
        if end:
            writer.end(500_000_000, "interrupted")
    return SAMPLE


texts = st.text(st.characters(codec="utf-8"), max_size=12)
page_sets = st.builds(
    lambda numbers, categories: pages(*numbers, categories=Category(categories)),
    st.sets(st.integers(0, 1 << 40), max_size=8),
    st.integers(0, 0x1FF),
)
blind_spots = st.builds(
    lambda start, length, reason, detail: BlindSpot(start, start + length, reason, detail),
    st.integers(0, 1 << 47),
    st.integers(1, 1 << 40),
    st.sampled_from(BlindReason),
    texts,
)
mapping_values = st.builds(
    lambda page, n_pages, letters, offset, device, inode, name, size, flags: Mapping(
        page * PAGE, (page + n_pages) * PAGE, letters, offset, device, inode, name, size, flags
    ),
    st.integers(0, 6),
    st.integers(1, 3),
    st.sampled_from(["rw-p", "r--s", "---p"]),
    st.integers(0, (1 << 64) - 1),
    st.just("fe:01"),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from(["", "[heap]", "/a"]) | texts,
    st.sampled_from([PAGE, 2 << 20]),
    st.none() | st.frozensets(st.sampled_from(["rd", "wr", "uw"])),
)


@st.composite
def random_epochs(draw: st.DrawFn) -> Sequence[EpochRow]:
    """Epochs of a few processes with ascending times; blind spots often stay the same."""
    rows = []
    count: dict[int, int] = {}
    at_ns = 0
    usual = tuple(draw(st.lists(blind_spots, max_size=3)))
    for _ in range(draw(st.integers(0, 12))):
        pid = draw(st.integers(1, 3))
        at_ns += draw(st.integers(0, 1 << 40))
        spots = usual if draw(st.booleans()) else tuple(draw(st.lists(blind_spots, max_size=2)))
        took_ns = draw(st.integers(0, 1000))
        rows.append(EpochRow(pid, count.get(pid, 0), at_ns, at_ns + took_ns, draw(page_sets), draw(page_sets), spots))
        count[pid] = count.get(pid, 0) + 1
    return rows
