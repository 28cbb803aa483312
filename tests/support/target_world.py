"""Another, unmodified process as a TrackedWorld: :mod:`support.target` obeys, the trackers are attached to it."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pagewatch
from pagewatch.trackers.base import Tracker
from pagewatch.vocab.addresses import PAGE_SIZE
from support import libc


class TargetWorld:
    """Owns the process; it ends with :meth:`close`."""

    page_size = PAGE_SIZE

    def __init__(self) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "support.target"],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.call("madvise", 0, 0, 0)
        self.process = pagewatch.Process(self.popen.pid)
        self.process.attach()

    def call(self, name: str, *positional: int, **named: int) -> Any:
        """Let the target run a function of :mod:`support.libc`."""
        return self._ask([name, positional, named])

    def _ask(self, command: list[Any]) -> Any:
        assert self.popen.stdin
        assert self.popen.stdout
        self.popen.stdin.write(json.dumps(command) + "\n")
        self.popen.stdin.flush()
        return json.loads(self.popen.stdout.readline())

    def map(self, n_pages: int, *, shared: bool = False, at: int | None = None) -> int:
        length = n_pages * self.page_size
        kind = libc.MAP_SHARED if shared else libc.MAP_PRIVATE
        if at is None:
            at = self.call("mmap", length + 2 * self.page_size, prot=libc.PROT_NONE) + self.page_size
        return int(self.call("mmap", length, flags=kind | libc.MAP_ANONYMOUS, at=at))

    def file(self, n_bytes: int) -> int:
        """A descriptor of the target for a new file of that size."""
        return int(self._ask(["file", n_bytes]))

    def unmap(self, start: int, n_pages: int) -> None:
        self.call("munmap", start, n_pages * self.page_size)

    def store(self, address: int, data: bytes) -> None:
        self._ask(["store", address, base64.b64encode(data).decode()])

    def load(self, address: int, n_bytes: int) -> bytes:
        return base64.b64decode(self._ask(["load", address, n_bytes]))

    def drop(self, start: int, n_pages: int) -> None:
        self.call("madvise", start, n_pages * self.page_size, libc.MADV_DONTNEED)

    def track(self, ranges: Sequence[tuple[int, int]] | None, *, strict: bool = False) -> Tracker:
        return pagewatch.track(self.process, ranges=ranges, strict=strict)

    def close(self) -> None:
        self.process.close()
        assert self.popen.stdin
        assert self.popen.stdout
        self.popen.stdin.close()
        self.popen.wait(timeout=10)
        self.popen.stdout.close()


@contextmanager
def target_world() -> Iterator[TargetWorld]:
    """A target that is ended."""
    world = TargetWorld()
    try:
        yield world
    finally:
        world.close()
