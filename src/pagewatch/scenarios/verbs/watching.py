"""Asking which pages were written: userfaultfd, PAGEMAP_SCAN, the address-space helpers, and our own tracker."""

from collections.abc import Sequence

from pagewatch.model.adapters import ModelHugePages, ModelLayout, ModelProtection, ModelScanner, StepClock
from pagewatch.model.dirty_helpers import Bitmap
from pagewatch.model.file import FileMapping
from pagewatch.model.uffd.context import Feature, Mode
from pagewatch.model.uffd.fd import Userfaultfd
from pagewatch.scenarios.verbs.base import Turn, Verb
from pagewatch.scenarios.world import Pages
from pagewatch.trackers.scope import Ranges
from pagewatch.trackers.uffd_async import UffdAsync
from pagewatch.vocab.categories import Category
from pagewatch.vocab.errors import InvalidArgument
from pagewatch.vocab.query import Query

WRITTEN = Query(mask=Category.WRITTEN, returned=Category.WRITTEN)


def _opened(turn: Turn) -> Userfaultfd:
    """The userfaultfd of the scenario; asynchronous."""
    if turn.world.uffd is None:
        turn.world.uffd = turn.process.userfaultfd(Feature.WP_ASYNC)
    return turn.world.uffd


def _register(turn: Turn, words: Sequence[str]) -> str:
    pages, name = turn.world.pages(words[0]), words[1].upper()
    if name not in Mode.__members__:
        raise InvalidArgument(f"register: no mode {words[1]!r}; there are: {', '.join(Mode.__members__).lower()}")
    _opened(turn).register(pages.start, pages.n_bytes, Mode[name])
    return ""


def _arm(turn: Turn, words: Sequence[str]) -> str:
    _register(turn, [words[0], "wp"])
    return _protect(turn, words)


def _protect(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    if turn.world.uffd is None:
        raise InvalidArgument("protect: arm or register an area first")
    turn.world.uffd.writeprotect(pages.start, pages.n_bytes)
    return ""


def _fill(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    if turn.world.uffd is None:
        raise InvalidArgument("fill: register an area first")
    turn.world.attempts.append(False)
    turn.world.uffd.copy(pages.start, words[1].encode().ljust(turn.world.page_bytes, b"\0"))
    turn.world.attempts[-1] = True
    return "filled"


def _look(turn: Turn, words: Sequence[str]) -> str:
    return _scan(turn, turn.world.pages(words[0]), protect=False)


def _collect(turn: Turn, words: Sequence[str]) -> str:
    return _scan(turn, turn.world.pages(words[0]), protect=True)


def _scan(turn: Turn, pages: Pages, *, protect: bool) -> str:
    scan = turn.process.scan(pages.start, pages.end, WRITTEN, protect=protect)
    found = [int(address) for address in scan.regions.page_addresses()]
    turn.world.seen.update(found)
    return "written: " + turn.world.page_names(pages.area, found)


def _track(turn: Turn, words: Sequence[str]) -> str:
    pages, protection = turn.world.pages(words[0]), ModelProtection(turn.process)
    turn.world.tracker = UffdAsync(
        scanner=ModelScanner(turn.process),
        protection=protection,
        layout=ModelLayout(turn.process),
        huge_pages=ModelHugePages(turn.process),
        clock=StepClock(),
        scope=Ranges([(pages.start, pages.end)]),
        release=protection.close,
    )
    turn.world.tracker.arm()
    return ""


def _epoch(turn: Turn, words: Sequence[str]) -> str:
    pages, tracker = turn.world.pages(words[0]), turn.world.tracker
    if tracker is None:
        raise InvalidArgument("epoch: track an area first")
    epoch = tracker.collect()
    written = [int(address) for address in epoch.regions.clip(pages.start, pages.end).page_addresses()]
    turn.world.seen.update(written)
    said = ["written: " + turn.world.page_names(pages.area, written)]
    for spot in epoch.blind_spots:
        first, last = max(spot.start, pages.start), min(spot.end, pages.end)
        blind = list(range(first, last, turn.world.page_bytes))
        turn.world.named.update(blind)
        if blind:
            said.append(f"blind: {turn.world.page_names(pages.area, blind)} ({spot.reason.value})")
    return "; ".join(said)


def _wp(turn: Turn, words: Sequence[str]) -> str:
    file, n_pages = shared_file(turn, words[0])
    return f"{turn.world.kernel.wp_shared_mapping_range(file, 0, n_pages)} made read-only"


def _clean(turn: Turn, words: Sequence[str]) -> str:
    world, area = turn.world, words[0]
    file, n_pages = shared_file(turn, area)
    bitmap = world.bitmaps.setdefault(area, Bitmap(n_pages))
    count, _start, _end = world.kernel.clean_record_shared_mapping_range(file, 0, n_pages, 0, bitmap, 0, 0)
    for page in bitmap.indexes():
        bitmap[page] = False
        world.kept[area, page] = file.read(page * world.page_bytes, 8)
    return f"{count} cleaned"


def shared_file(turn: Turn, area: str) -> tuple[FileMapping, int]:
    """The file of a shared area, and how many pages of it are mapped.

    :raises InvalidArgument: the area has none.
    """
    vma = turn.world.area_of(turn.process, area)
    if vma.file is None:
        raise InvalidArgument(f"{area} is not shared")
    return vma.file, vma.end - vma.start >> turn.world.kernel.machine.page_shift


VERBS = (
    Verb("register AREA MODE", "watch with an asynchronous userfaultfd: missing, wp or minor", _register),
    Verb("arm AREA", "register for wp, and protect", _arm),
    Verb("protect PAGES", "UFFDIO_WRITEPROTECT", _protect),
    Verb("fill PAGE TEXT", "UFFDIO_COPY", _fill),
    Verb("look PAGES", "PAGEMAP_SCAN: which pages were written", _look),
    Verb("collect PAGES", "the same, and protect what it tells, in one step", _collect),
    Verb("track PAGES", "arm the tracker that programs use", _track),
    Verb("epoch PAGES", "let it collect, and tell where it is blind", _epoch),
    Verb("wp AREA", "the address-space helper that makes shared mappings read-only", _wp),
    Verb("clean AREA", "the one that clears dirty bits; the content of what it records is kept", _clean),
)
