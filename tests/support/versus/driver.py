"""A process that carries out steps on its own memory, and says what came of them.

Run with one descriptor of a socket for each process there may be: the first is its own, a forked child takes
the one that the step names. A request is a list of steps, marshalled, with its length in four bytes before;
the answer is a list of outcomes.
"""

import array
import ctypes
import marshal
import os
import platform
import signal
import socket
import struct
import sys
import tempfile
from contextlib import suppress

from support.versus import calls
from support.versus.accesses import Accesses
from support.versus.outcomes import HUGE_PAGES, PAGE, SMALL, WORD_AT, Arena, Observation, Result, Row

_HUGETLB = 0x40000 | 21 << 26
"""MAP_HUGETLB, with pages of 2 MiB."""
_KINDS = {
    # kind: MAP_* flags, file
    "anon": (0x22, ""),
    "shared": (0x21, ""),
    "memfd": (0x01, "memfd"),
    "memfd-private": (0x02, "memfd"),
    "disk": (0x01, "disk"),
    "disk-private": (0x02, "disk"),
    "hugetlb": (0x21 | _HUGETLB, ""),
    "hugetlb-private": (0x22 | _HUGETLB, ""),
    "hugefile": (0x01, "hugefile"),
    "hugefile-private": (0x02, "hugefile"),
}
_HUGE_BYTES = HUGE_PAGES * PAGE
_MAX_ROWS = 4096


class Driver:
    """One process; methods named ``do_*`` are the steps. They return a number or raise OSError."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        self.accesses = Accesses()
        self.uffds: dict[int, int] = {}
        self.files: dict[str, int] = {}
        self.children: dict[int, int] = {}
        self.arena = SMALL
        self.rows = (ctypes.c_uint64 * (3 * _MAX_ROWS))()
        self.pagemap = -1
        self.maps = -1
        self._open_proc()

    def serve(self, channel: socket.socket) -> None:
        """Answer until the other side closes the socket."""
        while head := channel.recv(4):
            steps = marshal.loads(_receive(channel, *struct.unpack("I", head)))
            answer = marshal.dumps([self.outcome(step) for step in steps])
            channel.sendall(struct.pack("I", len(answer)) + answer)

    def outcome(self, step: tuple) -> tuple[Result, Observation]:
        """Carry out one step."""
        name, *arguments = step
        if name in ("load", "store"):
            result = self._access(name, *arguments)
        else:
            try:
                result = ("ok", getattr(self, "do_" + name)(*arguments))
            except OSError as error:
                result = ("errno", error.errno)
        return result, self._observe()

    def _access(self, name: str, page: int, value: int = 0) -> Result:
        address = self.arena.at(page) + WORD_AT
        return self.accesses.load(address) if name == "load" else self.accesses.store(address, value)

    def _observe(self) -> Observation:
        arena = self.arena
        masks = (0, 0, 0, arena.categories)
        _, _, rows = self.do_scan(arena.base, arena.end, 0, masks, (0, arena.n_pages + 1, 1))
        words = array.array("Q", os.pread(self.pagemap, arena.n_pages * 8, arena.base // PAGE * 8))
        return rows, tuple(words[page] >> 55 for page in arena.places), self._areas()

    def _areas(self) -> tuple[tuple[int, int, str], ...]:
        text = os.pread(self.maps, 1 << 20, 0)
        found = []
        for line in text.splitlines():
            span, permissions, _ = line.split(maxsplit=2)
            start, _, end = span.partition(b"-")
            if self.arena.base <= int(start, 16) < self.arena.end:
                found.append((int(start, 16), int(end, 16), permissions.decode()))
        return tuple(found)

    def do_loads(self) -> tuple[Result, ...]:
        """All places, one by one."""
        return tuple(self._access("load", page) for page in self.arena.places)

    # Areas.

    def do_mmap(self, page: int, n_pages: int, kind: str, prot: int, shift: int) -> int:
        flags, file = _KINDS[kind]
        fd = self.files[file] if file else -1
        offset = (page + shift) * PAGE if file else 0
        address, n_bytes = self.arena.at(page), n_pages * PAGE
        result = calls.mmap(address, n_bytes, prot, flags | calls.MAP_FIXED, fd, offset)
        if file == "disk":
            # How far it reads ahead is the kernel's guess, and not compared.
            calls.madvise(address, n_bytes, calls.MADV_RANDOM)
        return result

    def do_munmap(self, page: int, n_pages: int) -> int:
        return calls.munmap(self.arena.at(page), n_pages * PAGE)

    def do_mprotect(self, page: int, n_pages: int, prot: int) -> int:
        return calls.mprotect(self.arena.at(page), n_pages * PAGE, prot)

    def do_madvise(self, page: int, n_pages: int, advice: int) -> int:
        return calls.madvise(self.arena.at(page), n_pages * PAGE, advice)

    def do_mremap(self, page: int, n_pages: int, n_new: int, flags: int, target: int) -> int:
        return calls.mremap(self.arena.at(page), n_pages * PAGE, n_new * PAGE, flags, self.arena.at(target))

    # Files.

    def do_pwrite(self, file: str, page: int, value: int) -> int:
        return os.pwrite(self.files[file], value.to_bytes(8, "little"), page * PAGE + WORD_AT)

    def do_pread(self, file: str, page: int) -> int:
        return int.from_bytes(os.pread(self.files[file], 8, page * PAGE + WORD_AT), "little")

    def do_truncate(self, file: str, n_bytes: int) -> None:
        os.ftruncate(self.files[file], n_bytes)

    def do_punch(self, file: str, page: int, n_pages: int) -> int:
        return calls.fallocate(self.files[file], calls.FALLOC_PUNCH_HOLE, page * PAGE, n_pages * PAGE)

    # Userfaultfd.

    def do_uffd(self, slot: int, features: int) -> None:
        fd = calls.syscall(calls.USERFAULTFD[platform.machine()], os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            calls.words_ioctl(fd, calls.UFFDIO_API, 0xAA, features, 0)
        except OSError:
            os.close(fd)
            raise
        self.do_close(slot)
        self.uffds[slot] = fd

    def do_close(self, slot: int) -> None:
        if slot in self.uffds:
            os.close(self.uffds.pop(slot))

    def do_register(self, slot: int, page: int, n_pages: int, mode: int) -> None:
        calls.words_ioctl(self.uffds[slot], calls.UFFDIO_REGISTER, self.arena.at(page), n_pages * PAGE, mode, 0)

    def do_unregister(self, slot: int, page: int, n_pages: int) -> None:
        calls.words_ioctl(self.uffds[slot], calls.UFFDIO_UNREGISTER, self.arena.at(page), n_pages * PAGE)

    def do_writeprotect(self, slot: int, page: int, n_pages: int, mode: int) -> None:
        calls.words_ioctl(self.uffds[slot], calls.UFFDIO_WRITEPROTECT, self.arena.at(page), n_pages * PAGE, mode)

    def do_copy(self, slot: int, page: int, n_pages: int, value: int, mode: int) -> int:
        source = ctypes.create_string_buffer(n_pages * PAGE)
        for index in range(n_pages):
            struct.pack_into("Q", source, index * PAGE + WORD_AT, value + index)
        address = ctypes.addressof(source)
        return calls.filled(self.uffds[slot], calls.UFFDIO_COPY, self.arena.at(page), address, n_pages * PAGE, mode)

    def do_zeropage(self, slot: int, page: int, n_pages: int) -> int:
        return calls.filled(self.uffds[slot], calls.UFFDIO_ZEROPAGE, self.arena.at(page), n_pages * PAGE, 0)

    def do_continue(self, slot: int, page: int, n_pages: int, mode: int) -> int:
        return calls.filled(self.uffds[slot], calls.UFFDIO_CONTINUE, self.arena.at(page), n_pages * PAGE, mode)

    def do_poison(self, slot: int, page: int, n_pages: int) -> int:
        return calls.filled(self.uffds[slot], calls.UFFDIO_POISON, self.arena.at(page), n_pages * PAGE, 0)

    def do_move(self, slot: int, to: int, page: int, n_pages: int, mode: int) -> int:
        target, source = self.arena.at(to), self.arena.at(page)
        return calls.filled(self.uffds[slot], calls.UFFDIO_MOVE, target, source, n_pages * PAGE, mode)

    # Scans.

    def do_scan(
        self, start: int, end: int, flags: int, masks: tuple[int, ...], limits: tuple[int, ...]
    ) -> tuple[int, int | None, tuple[Row, ...]]:
        """The raw ioctl: (count or negative errno, walk_end unless untouched, rows in the vector)."""
        max_pages, room, with_vector = limits
        n_rows = min(room, _MAX_ROWS)
        ctypes.memset(self.rows, 0, n_rows * 24)
        vector = ctypes.addressof(self.rows) if with_vector else 0
        arg = calls.ScanArg(96, flags, start, end, calls.UNSET, vector, room, max_pages, *masks)
        try:
            count = calls.ioctl(self.pagemap, calls.PAGEMAP_SCAN, ctypes.byref(arg))
        except OSError as error:
            count = -(error.errno or 0)
        rows = []
        for index in range(n_rows):
            row = tuple(self.rows[3 * index : 3 * index + 3])
            if not row[1]:
                break
            rows.append(row)
        return count, None if arg.walk_end == calls.UNSET else arg.walk_end, tuple(rows)

    # Processes.

    def do_fork(self, child: int) -> None:
        ready, set_ready = os.pipe()
        pid = os.fork()
        if pid:
            self.children[child] = pid
            # The child must have let go of our descriptors before anything else happens.
            os.close(set_ready)
            os.read(ready, 1)
            os.close(ready)
            return
        calls.prctl(calls.PR_SET_PDEATHSIG, signal.SIGKILL)
        for fd in self.uffds.values():
            os.close(fd)
        self.uffds.clear()
        self.children.clear()
        self._open_proc()
        os.close(ready)
        os.close(set_ready)
        self.serve(self.sockets[child])
        os._exit(0)

    def do_reap(self, child: int) -> None:
        """End a child; its memory is gone when this returns."""
        pid = self.children.pop(child)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def do_reset(self, *arena: object) -> None:
        """Make everything as it was at first, with an arena of that geometry, and open its files."""
        for child in tuple(self.children):
            self.do_reap(child)
        with suppress(ChildProcessError):
            while True:  # grandchildren, which die with their parents and are ours then
                os.waitpid(-1, 0)
        for slot in tuple(self.uffds):
            self.do_close(slot)
        for fd in self.files.values():
            os.close(fd)
        # To the end of the last huge page: moved hugetlb memory may stick out of the arena.
        calls.munmap(self.arena.base, -(-self.arena.end // _HUGE_BYTES) * _HUGE_BYTES - self.arena.base)
        self.arena = Arena(*arena)
        memfd = os.memfd_create("arena")
        with tempfile.TemporaryFile() as file:
            disk = os.dup(file.fileno())
        os.posix_fadvise(disk, 0, 0, os.POSIX_FADV_RANDOM)
        for fd in (memfd, disk):
            os.ftruncate(fd, self.arena.file_pages * PAGE)
        self.files = {"memfd": memfd, "disk": disk}
        if self.arena.pool:
            self.files["hugefile"] = os.memfd_create("hugefile", os.MFD_CLOEXEC | os.MFD_HUGETLB | os.MFD_HUGE_2MB)
            os.ftruncate(self.files["hugefile"], HUGE_PAGES * PAGE)

    def _open_proc(self) -> None:
        for fd in (self.pagemap, self.maps):
            with suppress(OSError):
                os.close(fd)
        self.pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
        self.maps = os.open("/proc/self/maps", os.O_RDONLY)


def _receive(channel: socket.socket, n_bytes: int) -> bytes:
    return channel.recv(n_bytes, socket.MSG_WAITALL)


def main() -> None:
    """Serve on the first of the descriptors given."""
    sockets = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
    calls.prctl(calls.PR_SET_CHILD_SUBREAPER, 1)
    # All on one CPU: pages that another has not yet put on the lists of reclaim could not be paged out.
    os.sched_setaffinity(0, {os.getpid() % len(os.sched_getaffinity(0))})
    Driver(sockets).serve(sockets[0])


if __name__ == "__main__":
    main()
