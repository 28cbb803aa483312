"""The kernels of the matrix, and what each of them is known to offer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture as Debian, Python wheels and qemu name it."""

    debian: str
    wheels: str
    """Platform tag of binary wheels."""
    qemu: tuple[str, ...]
    boot: str
    """Kernel command line."""


AMD64 = Machine(
    debian="amd64",
    wheels="manylinux_2_28_x86_64",
    qemu=("qemu-system-x86_64", "-machine", "q35", "-cpu", "max"),
    # qemu 7.2 now and then loses the condition codes of a cmpxchg16b when CPUs run in parallel, and the
    # kernel's allocator then dereferences garbage. Programs still see the instruction: numpy asks for it.
    boot="console=ttyS0 clearcpuid=cx16",
)
ARM64 = Machine(
    debian="arm64",
    wheels="manylinux_2_28_aarch64",
    # "max" has the hardware-managed dirty bit, which decides what write protection has to undo. Its
    # pointer authentication is set to the cheap algorithm: the architected one costs half the speed.
    qemu=("qemu-system-aarch64", "-machine", "virt,gic-version=3", "-cpu", "max,pauth-impdef=on"),
    boot="console=ttyAMA0",
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of the matrix."""

    name: str
    """What --kernel takes: version, dash, architecture."""
    suite: str
    """Debian suite that packages it."""
    image: str
    """Regular expression for the whole name of the package; the newest match is taken."""
    machine: Machine
    offers: frozenset[str]
    """Names of the mechanisms in probe.py that this kernel has; it must have exactly these."""
    tests: tuple[str, ...]
    """What is run by default: few minutes under emulation, and what only another kernel can show."""

    @property
    def selection(self) -> str:
        """The shell command that is run by default."""
        probe = f"python3 kernels/probe.py --offers {' '.join(sorted(self.offers))}"
        # A tenth of the speed: the time limit of a single test is raised accordingly.
        return f"{probe} && python3 -m pytest -q -p no:cacheprovider -o timeout=600 {' '.join(self.tests)}"


USERLAND_SUITE = "trixie"
"""Every guest runs this release's Python, whatever its kernel."""

# The whole library on the real thing: the contract of an epoch, and every live test of mechanism and attach.
_TRACKING = ("tests/conformance", "tests/live")
# What must say "no" well where the mechanism is missing.
_REFUSING = ("tests/unit/linux", "tests/live/test_features.py")
_ASYNC = {"userfaultfd", "uffd-wp", "uffd-wp-async", "pagemap-scan"}

KERNELS = {
    kernel.name: kernel
    for kernel in (
        Kernel(
            name="6.1-amd64",
            suite="bookworm",
            image=r"linux-image-6\.1\.[\w.+-]*-cloud-amd64",
            machine=AMD64,
            offers=frozenset({"userfaultfd", "uffd-wp", "soft-dirty"}),
            tests=_REFUSING,
        ),
        Kernel(
            name="6.12-amd64",
            suite="trixie",
            image=r"linux-image-6\.12\.[\w.+-]*-cloud-amd64",
            machine=AMD64,
            offers=frozenset(_ASYNC | {"soft-dirty"}),
            tests=_TRACKING,
        ),
        Kernel(
            name="6.12-arm64",
            suite="trixie",
            image=r"linux-image-6\.12\.[\w.+-]*-cloud-arm64",
            machine=ARM64,
            offers=frozenset(_ASYNC),
            tests=_TRACKING,
        ),
    )
}
