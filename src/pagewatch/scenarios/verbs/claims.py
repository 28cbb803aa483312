"""What must hold."""

from collections.abc import Sequence

from pagewatch.model.walk import for_each_leaf
from pagewatch.scenarios.verbs.base import Turn, Verb
from pagewatch.scenarios.verbs.watching import WRITTEN, shared_file
from pagewatch.scenarios.world import hold


def _expect(turn: Turn, words: Sequence[str]) -> str:
    wanted = words[1].encode()
    found = turn.process.load(turn.world.pages(words[0]).start, len(wanted), cpu=turn.cpu)
    return hold(found == wanted, f"{words[0]} holds {found!r}, not {wanted!r}")


def _expect_if_stored(turn: Turn, words: Sequence[str]) -> str:
    return _expect(turn, words) if turn.world.attempts[-1:] == [True] else "nothing was stored"


def _expect_fault(turn: Turn, _: Sequence[str]) -> str:
    return hold(turn.world.attempts[-1:] == [False], "the store went through an old translation")


def _expect_seen(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    return hold(_is_seen(turn, pages.start, pages.end), f"{words[0]} was written, no collect said so, and none will")


def _is_seen(turn: Turn, start: int, end: int) -> bool:
    return start in turn.world.seen or bool(turn.process.scan(start, end, WRITTEN).regions)


def _expect_told(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    told = pages.start in turn.world.named or _is_seen(turn, pages.start, pages.end)
    return hold(told, f"{words[0]} was written, and the tracker neither said so nor that it is blind there")


def _expect_clean(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    written = [int(at) for at in turn.process.scan(pages.start, pages.end, WRITTEN).regions.page_addresses()]
    return hold(not written, f"{turn.world.page_names(pages.area, written)}: not protected any more, and not written")


def _expect_kept(turn: Turn, words: Sequence[str]) -> str:
    world, pages = turn.world, turn.world.pages(words[0])
    current = shared_file(turn, pages.area)[0].read(pages.first * world.page_bytes, 8)
    bitmap = world.bitmaps.get(pages.area)
    recorded = bitmap is not None and bitmap[pages.first]
    leaves = for_each_leaf(turn.process.mm, pages.start, pages.end)
    dirty = any(leaf.spot.fmt.mkclean(leaf.spot.entry) != leaf.spot.entry for leaf in leaves)
    kept = world.kept.get((pages.area, pages.first)) == current
    return hold(kept or recorded or dirty, f"{words[0]} was written, its content was not kept, and it is clean")


def _expect_pinned(turn: Turn, words: Sequence[str]) -> str:
    wanted, pin = words[1].encode(), turn.world.pins.get(turn.world.pages(words[0]).start)
    if pin is None:
        return "nothing is pinned"
    found = pin.read(0, len(wanted))
    return hold(found == wanted, f"the device reads {found!r} through its pin of {words[0]}, not {wanted!r}")


VERBS = (
    Verb("expect PAGE TEXT", "the page begins with TEXT", _expect),
    Verb("expect-if-stored PAGE TEXT", "the same, if the last try-store or fill took place", _expect_if_stored),
    Verb("expect-fault", "the last try-store needed the kernel", _expect_fault),
    Verb("expect-seen PAGE", "a collect reported it, or the next one will", _expect_seen),
    Verb("expect-told PAGE", "the same, or an epoch said that the tracker is blind there", _expect_told),
    Verb("expect-clean PAGES", "nothing of them counts as written", _expect_clean),
    Verb("expect-kept PAGE", "its content was kept by clean, or the next clean will record it", _expect_kept),
    Verb("expect-pinned PAGE TEXT", "what a device reads through its pin begins with TEXT", _expect_pinned),
)
