"""What reaches pages past the page tables: pins, devices, and memory that fails."""

from collections.abc import Sequence

from pagewatch.model.pins import Want
from pagewatch.model.walk import frame_of, seek
from pagewatch.scenarios.verbs.base import Turn, Verb
from pagewatch.vocab.errors import InvalidArgument

_WISHES = {"read": Want.READ, "write": Want.WRITE}


def _pin(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    wish = words[1] if len(words) > 1 else "write"
    if wish not in _WISHES or words[2:] not in ([], ["longterm"]):
        raise InvalidArgument("pin takes pages, 'read' or 'write', and 'longterm'")
    want = _WISHES[wish] | (Want.LONGTERM if words[2:] else Want.READ)
    for address in range(pages.start, pages.end, turn.world.page_bytes):
        turn.world.pins[address] = turn.process.pin(address, 1, want, cpu=turn.cpu)
    return ""


def _unpin(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    for address in range(pages.start, pages.end, turn.world.page_bytes):
        if address in turn.world.pins:
            turn.world.pins.pop(address).release()
    return ""


def _dma(turn: Turn, words: Sequence[str]) -> str:
    pin = turn.world.pins.get(turn.world.pages(words[0]).start)
    if pin is None:
        raise InvalidArgument(f"dma {words[0]}: pin it first")
    pin.write(0, words[1].encode())
    return ""


def _migrate(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    return "moved: " + turn.world.page_names(pages.area, turn.process.migrate_to_device(pages.start, pages.n_bytes))


def _fail(turn: Turn, words: Sequence[str]) -> str:
    address = turn.world.pages(words[0]).start
    spot = seek(turn.process.mm, address)
    turn.world.kernel.memory_failure(frame_of(spot.fmt, spot.entry, address))
    return turn.world.kernel.log[-1]


VERBS = (
    Verb("pin PAGES [WISH] [longterm]", "pin for a device that will 'read' them, or 'write' to them", _pin),
    Verb("unpin PAGES", "let go of them", _unpin),
    Verb("dma PAGE TEXT", "let the device write through its pin", _dma),
    Verb("migrate PAGES", "to a device", _migrate),
    Verb("fail PAGE", "the memory fails", _fail),
)
