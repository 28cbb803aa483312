"""The front: a kernel, its processes, and their system calls as methods."""

import errno

from pagewatch.model.areas import check_range, map_area, protect_areas, unmap_areas
from pagewatch.model.errors import os_error
from pagewatch.model.file import FileKind, FileMapping
from pagewatch.model.machine import Machine
from pagewatch.model.mm import Mm
from pagewatch.model.mmu import load, store
from pagewatch.model.quirks import Quirks
from pagewatch.model.scan.call import ScanArg, ScanReply, pagemap_scan
from pagewatch.model.uffd.context import ALL_FEATURES, Context, Feature
from pagewatch.model.uffd.fd import Userfaultfd
from pagewatch.model.vma import VM_SHARED, Vma

PROT_READ = 1
PROT_WRITE = 2
PROT_EXEC = 4


class Kernel:
    """A machine and its kernel. Cheap to make: an explorer makes one for every execution."""

    def __init__(self, arch: str = "x86_64", *, cpus: int = 1, quirks: Quirks | None = None) -> None:
        """:param arch: a key of ``pagewatch.model.arch.ARCHES``.

        :raises InvalidArgument: unknown arch.
        """
        self.machine = Machine(arch, cpus=cpus, quirks=quirks or Quirks())

    def spawn(self) -> "Process":
        """A process with nothing mapped."""
        return Process(self.machine.new_mm())

    def memfd(self, n_bytes: int) -> FileMapping:
        """A file in memory."""
        return FileMapping(self.machine, FileKind.SHMEM, n_bytes)

    def disk_file(self, n_bytes: int) -> FileMapping:
        """A file of a file system with a disk below; zeros at first."""
        return FileMapping(self.machine, FileKind.DISK, n_bytes)


class Process:
    """One process: its address space and its system calls. Addresses and lengths are bytes."""

    def __init__(self, mm: Mm) -> None:
        """:param mm: made by :meth:`Kernel.spawn`."""
        self.mm = mm

    def mmap(
        self,
        length: int,
        *,
        prot: int = PROT_READ | PROT_WRITE,
        shared: bool = False,
        file: FileMapping | None = None,
        offset: int = 0,
        at: int | None = None,
    ) -> int:
        """Map memory and return its address; shared memory without a file gets one of its own.

        :param at: map exactly there, replacing what is there.
        :raises OSError: EINVAL, ENOMEM.
        """
        machine = self.mm.machine
        if shared and file is None:
            file = FileMapping(machine, FileKind.SHMEM, length)
        return map_area(
            self.mm,
            length,
            prot=prot,
            flags=VM_SHARED if shared else 0,
            file=file,
            offset=offset,
            at=at,
            name="",
            page_bytes=machine.page_bytes if file is None else file.page_bytes,
        )

    def munmap(self, start: int, length: int) -> None:
        """Unmap a range; gaps in it are no error.

        :raises OSError: EINVAL.
        """
        end = check_range(self.mm, start, length, "munmap")
        with self.mm.write_locked():
            unmap_areas(self.mm, start, end)

    def mprotect(self, start: int, length: int, prot: int) -> None:
        """Change access rights.

        :raises OSError: EINVAL, EACCES, ENOMEM at a gap (what is before it has changed).
        """
        protect_areas(self.mm, start, check_range(self.mm, start, length, "mprotect"), prot)

    def store(self, address: int, data: bytes, *, cpu: int = 0) -> None:
        """A user's store on a CPU.

        :raises Signal: it is not allowed.
        """
        store(self.mm, self.mm.machine.cpus[cpu], address, data)

    def load(self, address: int, n_bytes: int, *, cpu: int = 0) -> bytes:
        """A user's load on a CPU.

        :raises Signal: it is not allowed.
        """
        return load(self.mm, self.mm.machine.cpus[cpu], address, n_bytes)

    def userfaultfd(self, features: int = 0, *, user_mode_only: bool = False) -> Userfaultfd:
        """A userfaultfd after UFFDIO_API with these features.

        :raises OSError: EINVAL for an unknown feature.
        """
        if features & ~ALL_FEATURES:
            raise os_error(errno.EINVAL, "UFFDIO_API")
        return Userfaultfd(Context(self.mm, Feature(features), user_mode_only=user_mode_only))

    def pagemap_scan(self, arg: ScanArg) -> ScanReply:
        """The raw PAGEMAP_SCAN ioctl, kernel bugs included."""
        return pagemap_scan(self.mm, arg)

    @property
    def areas(self) -> tuple[Vma, ...]:
        """Its areas, ascending."""
        return tuple(self.mm.vmas)
