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
    # qemu 7.2 now and then loses the condition codes of a cmpxchg16b where there are several CPUs, and the
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
    tests: str
    """Arguments for pytest of the default run: what only this kernel can show, in a minute or two."""

    @property
    def selection(self) -> str:
        """The shell command that is run by default."""
        probe = f"python3 kernels/probe.py --offers {' '.join(sorted(self.offers))}"
        # Emulated, everything takes its ten times as long; the limit is for what hangs.
        pytest = "python3 -m pytest -q -p no:cacheprovider -o timeout=600 tests/kernels/test_probe.py"
        return f"{probe} && {pytest} {self.tests}"


USERLAND_SUITE = "trixie"
"""Every guest runs this release's Python, whatever its kernel."""

# What every kernel must be right about: what it can do, or in plain words why not.
_FEATURES = "tests/live/test_features.py -k 'no_probe_is_broken or root_has or soft_dirty or every_no or agree'"
_CONTRACT = "tests/conformance/test_epoch_contract.py tests/conformance/test_dead.py"
# Where the model and the kernel parted once: quirks must say of an older kernel, too, what it does.
_MODEL = "tests/conformance/test_differences.py tests/conformance/test_huge_differences.py"
# The contract of an epoch, on this process and on another, and the scan behind it.
_TRACKING = f"{_CONTRACT} {_MODEL} tests/live/test_pagemap.py -k 'not random and not resumed and not anywhere'"
# Registers, interrupted calls and signals are each machine's own affair.
_ATTACHING = f"{_CONTRACT} {_MODEL} tests/live/test_attach.py -k 'not random and not timeout_keeps and not stormed'"
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
            tests=_FEATURES,
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
            tests=_ATTACHING,
        ),
    )
}
