"""One mapping of an address space (a VMA), as plain data."""

from dataclasses import dataclass

from pagewatch.vocab.addresses import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/PID/maps, or a VMA of the model."""

    start: int
    """Bytes, inclusive."""
    end: int
    """Bytes, exclusive."""
    permissions: str
    """Four letters, such as ``rw-p``; the last is ``p`` (private) or ``s`` (shared)."""
    offset: int = 0
    """Offset in the file, bytes."""
    device: str = "00:00"
    """``major:minor`` of the file's device, hexadecimal."""
    inode: int = 0
    """Inode of the file; 0 for private anonymous memory."""
    name: str = ""
    """Path, ``[heap]`` and the like, or empty. Text of the target's choosing: escape it before display."""
    page_size: int = PAGE_SIZE
    """Bytes of the mapping's own page: more than the machine's page only for hugetlb."""
    flags: frozenset[str] | None = None
    """Two-letter VmFlags (``uw`` write-protect tracking, ``io``, ``pf`` ...), or None where not asked for."""

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.end - self.start

    @property
    def readable(self) -> bool:
        """Whether the target may read it now."""
        return self.permissions[0] == "r"

    @property
    def writable(self) -> bool:
        """Whether the target may write to it now."""
        return self.permissions[1] == "w"

    @property
    def executable(self) -> bool:
        """Whether the target may run it now."""
        return self.permissions[2] == "x"

    @property
    def shared(self) -> bool:
        """Whether stores reach the file or other processes (MAP_SHARED)."""
        return self.permissions[3] == "s"

    @property
    def anonymous(self) -> bool:
        """Whether it is private memory without a file behind it."""
        return self.inode == 0 and not self.shared

    @property
    def accessible(self) -> bool:
        """Whether any access is allowed now; False for a PROT_NONE reservation."""
        return self.permissions[:3] != "---"

    @property
    def label(self) -> str:
        """The name, or words for mappings that have none."""
        return self.name or ("[shared]" if self.shared else "[anonymous]")
