"""Mapping memory, and what a process does to it by loads, stores and system calls."""

from collections.abc import Sequence

from pagewatch.model.madvise import Advice
from pagewatch.model.mmu import try_store
from pagewatch.model.tlb import flush_mm
from pagewatch.scenarios.verbs.base import Turn, Verb
from pagewatch.vocab.errors import InvalidArgument

_KINDS = frozenset({"shared", "disk"})


def _map(turn: Turn, words: Sequence[str]) -> str:
    name, n_pages = words[0], _number(words[1])
    kinds, file, at, huge = set[str](), None, None, None
    rest = iter(words[2:])
    for word in rest:
        if word == "of":
            file = turn.world.area_of(turn.process, next(rest, "")).file
        elif word == "at":
            at = _number(next(rest, ""))
        elif word == "huge":
            huge = next(rest, "")
        else:
            kinds.add(word)
    if not kinds <= _KINDS:
        raise InvalidArgument(f"map: {', '.join(sorted(kinds - _KINDS))} is no kind; {', '.join(sorted(_KINDS))} are")
    n_bytes = n_pages * turn.world.page_bytes
    if "disk" in kinds:
        file = turn.world.kernel.disk_file(n_bytes)
    start = turn.process.mmap(n_bytes, shared=bool(kinds & {"shared", "disk"}), file=file, huge=huge, at=at)
    turn.world.areas[name] = start, n_pages
    return f"{name}: {start:#x}-{start + n_bytes:#x}"


def _number(word: str) -> int:
    try:
        return int(word, 0)
    except ValueError:
        raise InvalidArgument(f"{word!r} is not a number") from None


def _unmap(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    turn.process.munmap(pages.start, pages.n_bytes)
    return ""


def _fork(turn: Turn, _: Sequence[str]) -> str:
    turn.world.children.append(turn.process.fork())
    return ""


def _exit(turn: Turn, _: Sequence[str]) -> str:
    turn.process.exit()
    return ""


def _store(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    for address in range(pages.start, pages.end, turn.world.page_bytes):
        turn.process.store(address, words[1].encode(), cpu=turn.cpu)
    return ""


def _try_store(turn: Turn, words: Sequence[str]) -> str:
    cpu = turn.process.mm.machine.cpus[turn.cpu]
    stored = try_store(turn.process.mm, cpu, turn.world.pages(words[0]).start, words[1].encode())
    turn.world.attempts.append(stored)
    return "stored" if stored else "would fault"


def _load(turn: Turn, words: Sequence[str]) -> str:
    data = turn.process.load(turn.world.pages(words[0]).start, 8, cpu=turn.cpu)
    return repr(data.rstrip(b"\0").decode(errors="replace"))


def _flush(turn: Turn, _: Sequence[str]) -> str:
    flush_mm(turn.process.mm)
    return ""


def _advise(turn: Turn, words: Sequence[str]) -> str:
    pages, name = turn.world.pages(words[0]), words[1].upper().replace("-", "_")
    if name not in Advice.__members__:
        raise InvalidArgument(f"advise: no {words[1]!r}; there are: {', '.join(Advice.__members__).lower()}")
    turn.process.madvise(pages.start, pages.n_bytes, Advice[name])
    return ""


def _punch(turn: Turn, words: Sequence[str]) -> str:
    pages, vma = turn.world.pages(words[0]), turn.world.area_of(turn.process, words[0])
    if vma.file is None:
        raise InvalidArgument(f"{words[0]} is not a file's")
    shift = turn.world.kernel.machine.page_shift
    turn.world.kernel.punch_hole(vma.file, vma.index_of(pages.start, shift) << shift, pages.n_bytes)
    return ""


def _show(turn: Turn, words: Sequence[str]) -> str:
    pages = turn.world.pages(words[0])
    return turn.process.picture(pages.start, pages.end)


VERBS = (
    Verb("map AREA PAGES [KIND...]", "map memory: shared, disk, 'huge 2M', 'of AREA', 'at ADDRESS'", _map),
    Verb("unmap PAGES", "munmap", _unmap),
    Verb("fork", "go on with a child running beside", _fork),
    Verb("exit", "end the process", _exit),
    Verb("store PAGES TEXT", "store, faulting as often as it takes", _store),
    Verb("try-store PAGE TEXT", "one attempt of the CPU, without the kernel's help", _try_store),
    Verb("load PAGE", "read 8 bytes", _load),
    Verb("flush", "every TLB of the process", _flush),
    Verb("advise PAGES ADVICE", "madvise: dontneed, free, pageout, remove, collapse, ...", _advise),
    Verb("punch PAGES", "make a hole in the file behind them", _punch),
    Verb("show PAGES", "the page tables", _show),
)
