"""Statements: one line of words does one thing to a modelled process. ``HELP`` lists what there is."""

import re
import shlex

from pagewatch.model import Process, Quirks, Signal
from pagewatch.scenarios.verbs import claims, devices, memory, watching
from pagewatch.scenarios.verbs.base import Turn, Verb
from pagewatch.scenarios.world import Pages, World
from pagewatch.vocab.errors import InvalidArgument

VERBS: dict[str, Verb] = {
    verb.usage.split()[0]: verb for subject in (memory, watching, devices, claims) for verb in subject.VERBS
}
"""Every verb by its first word."""

_COLUMN = 34
"""Where the help explains what it showed."""

HELP = "\n".join(
    [
        *(f"{verb.usage:<{_COLUMN}}{verb.meaning}" for verb in VERBS.values()),
        "",
        "Pages are written a[3], a[1:4], or a for all of an area. Memory is anonymous and private unless 'map' says:",
        "shared (a file in memory), disk (a file on one), 'huge 2M' (hugetlb), 'of AREA' (the same file once more).",
        "'child' before a statement lets the latest child carry it out; 'cpu0' or 'cpu1' behind it says where.",
    ]
)


class Session:
    """A modelled kernel with one process, and statements carried out one after the other."""

    def __init__(self, *, arch: str = "x86_64", quirks: Quirks | None = None) -> None:
        """:param arch: a key of ``pagewatch.model.arch.ARCHES``."""
        self.world = World(arch=arch, quirks=quirks)
        self.kernel = self.world.kernel
        self.process: Process = self.world.parent
        self._ended: list[Process] = []

    def run(self, line: str, *, cpu: int = 0) -> str:
        """Run one statement; returns what it has to say, "" for nothing. An empty line or comment is none.

        :param cpu: where loads and stores run, unless the statement says so.
        :raises Broken: an expectation does not hold.
        :raises InvalidArgument: the statement cannot be understood.
        """
        words = shlex.split(line, comments=True)
        if not words:
            return ""
        process = self.process
        if words[0] == "child":
            if not self.world.children:
                raise InvalidArgument("child: fork first")
            process = self.world.children[-1]
            words = words[1:]
        name, arguments = words[0] if words else "", words[1:]
        if arguments and re.fullmatch(r"cpu[01]", arguments[-1]):
            cpu = int(arguments.pop()[3:])
        if name == "help":
            return HELP
        verb = VERBS.get(name)
        if verb is None:
            raise InvalidArgument(f"{name!r} is no statement; there are: {', '.join(VERBS)}")
        if not verb.n_least <= len(arguments) <= verb.n_most:
            raise InvalidArgument(f"{line!r}: it is {verb.usage!r}")
        if any(process is ended for ended in self._ended):
            raise InvalidArgument(f"{line!r}: the process has ended")
        if name == "exit":
            self._ended.append(process)
        try:
            return verb.act(Turn(self.world, process, cpu), arguments)
        except Signal as signal:
            return f"{signal.signo.name}, code {signal.code}"
        except OSError as error:
            return str(error.strerror or error)

    def pages(self, text: str) -> Pages:
        """What ``a``, ``a[2]`` or ``a[1:3]`` stands for.

        :raises InvalidArgument: there is no such area, or no such page in it.
        """
        return self.world.pages(text)
