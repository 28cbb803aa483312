"""What a guest boots from: kernel, initramfs and the disk with its userland; built once and cached.

The initramfs only finds the disks; the userland is an ext4 file system, so that booting reads no more of it
than the command needs and tests have a real disk file system under their files.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from catalogue import USERLAND_SUITE, Kernel, Machine
from packages import AptRoot, PackagesUnavailable, unpack

_TOOLS = ("bash", "coreutils", "dash", "findutils", "grep", "kmod", "mount", "procps", "sed", "util-linux")
_PACKAGES = ("base-files", "base-passwd", "python3", "gcc", "libc6-dev", *_TOOLS)
# What a kernel has built in is left out of its initramfs.
_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4", "zram")
_DISK_BYTES = 3 << 30  # sparse: what is not used takes no room on the host
_INIT = Path(__file__).parent / "guest/initramfs-init"
_FORMAT = 1  # raise it when what is built from the same packages changes


def default_cache() -> Path:
    """Where downloads and images are kept: $PAGEWATCH_KERNEL_CACHE, or the user's cache directory."""
    named = os.environ.get("PAGEWATCH_KERNEL_CACHE")
    return Path(named) if named else Path.home() / ".cache/pagewatch-kernels"


class ImageCache:
    """Builds images on first use and keeps them below *cache*.

    An image is named by everything that decides its content except the versions of its packages, so a
    cached one is used without any look at the network; *refresh* builds anew from today's packages.
    """

    def __init__(self, cache: Path, *, refresh: bool, say: Callable[[str], None]) -> None:
        self._cache = cache
        self._refresh = refresh
        self._made: set[Path] = set()
        self._say = say

    def kernel(self, kernel: Kernel) -> tuple[Path, Path]:
        """Kernel image and initramfs.

        :raises PackagesUnavailable: a package cannot be had.
        """
        spec = str((kernel.suite, kernel.image, kernel.machine.debian, _MODULES, _INIT.read_text()))
        made = self._image(f"kernel-{kernel.name}", spec, partial(self._build_kernel, kernel))
        return made / "vmlinuz", made / "initramfs"

    def userland(self, machine: Machine, requirements: list[str], finish: Callable[[Path], None]) -> Path:
        """Disk image with Python, a C compiler and the Python packages *requirements*.

        :param finish: called with a new image, before it is kept.
        :raises PackagesUnavailable: a package cannot be had.
        """
        spec = str((USERLAND_SUITE, _PACKAGES, machine.debian, machine.wheels, requirements))

        def build(directory: Path) -> None:
            self._build_userland(machine, requirements, directory / "disk.ext4")
            finish(directory / "disk.ext4")

        return self._image(f"userland-{machine.debian}", spec, build) / "disk.ext4"

    def _image(self, name: str, spec: str, build: Callable[[Path], None]) -> Path:
        digest = hashlib.sha256(f"{_FORMAT} {spec}".encode()).hexdigest()
        final = self._cache / f"{name}-{digest[:12]}"
        if not final.exists() or (self._refresh and final not in self._made):
            self._say(f"building {final.name}, once; this downloads packages")
            with _directory_below(self._cache) as new:
                build(new)
                for older in self._cache.glob(f"{name}-*"):
                    shutil.rmtree(older)
                new.rename(final)
                self._made.add(final)
        return final

    def _apt(self, suite: str, arch: str) -> AptRoot:
        root = AptRoot(self._cache / f"apt-{suite}-{arch}", suite, arch)
        root.update()
        return root

    def _build_kernel(self, kernel: Kernel, out: Path) -> None:
        apt = self._apt(kernel.suite, kernel.machine.debian)
        busybox = self._apt(USERLAND_SUITE, kernel.machine.debian)
        with _directory_below(self._cache) as work:
            tree, initramfs = work / "tree", work / "initramfs"
            for directory in (work / "deb", work / "busybox", initramfs / "bin", initramfs / "modules"):
                directory.mkdir(parents=True)
            unpack(apt.fetch(apt.newest(kernel.image), work / "deb"), tree)
            unpack(busybox.fetch("busybox-static", work / "busybox"), work / "busybox")
            shutil.copy(next((tree / "boot").glob("vmlinuz-*")), out / "vmlinuz")
            shutil.copy(next(work.glob("busybox/**/bin/busybox")), initramfs / "bin/busybox")
            shutil.copy(_INIT, initramfs / "init")
            (initramfs / "init").chmod(0o755)
            for order, module in enumerate(_modules_in_load_order(tree)):
                _copy_module(module, initramfs / "modules", order)
            _pack_initramfs(initramfs, out / "initramfs")

    def _build_userland(self, machine: Machine, requirements: list[str], disk: Path) -> None:
        apt = self._apt(USERLAND_SUITE, machine.debian)
        with _directory_below(self._cache) as work:
            tree, debs = work / "tree", work / "debs"
            debs.mkdir()
            for deb in apt.fetch_closure(_PACKAGES, debs):
                unpack(deb, tree)
            for name in ("passwd", "group"):  # what the package's own script does on installation
                shutil.copy(tree / f"usr/share/base-passwd/{name}.master", tree / "etc" / name)
            (tree / "usr/bin/cc").symlink_to("gcc")
            (tree / "project").mkdir()
            python = next((tree / "usr/lib").glob("python3.[0-9]*")).name.removeprefix("python")
            _install_wheels(machine, python, requirements, tree / f"usr/local/lib/python{python}/dist-packages")
            for directory in ("usr/share/doc", "usr/share/man", "usr/share/locale"):
                shutil.rmtree(tree / directory)
            _pack_disk(tree, disk)


@contextmanager
def _directory_below(cache: Path) -> Iterator[Path]:
    """Yield a scratch directory on the cache's file system; removed at the end unless renamed."""
    cache.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="building-", dir=cache))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _modules_in_load_order(tree: Path) -> list[Path]:
    release = next(tree.glob("**/lib/modules/*"))
    base = release.parents[2]
    subprocess.run(["/sbin/depmod", "-b", str(base), release.name], check=True)
    found: dict[Path, None] = {}
    for name in _MODULES:
        command = ["/sbin/modprobe", "-d", str(base), "-S", release.name, "--show-depends", name]
        lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        found |= {Path(line.split()[1]): None for line in lines if line.startswith("insmod ")}
    return list(found)


def _copy_module(module: Path, directory: Path, order: int) -> None:
    content = module.read_bytes()
    target = directory / f"{order:02}-{module.name.removesuffix('.xz')}"
    target.write_bytes(lzma.decompress(content) if module.suffix == ".xz" else content)


def _pack_initramfs(tree: Path, out: Path) -> None:
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    command = ["cpio", "--create", "--format=newc", "--owner=0:0", "--quiet"]
    packed = subprocess.run(command, cwd=tree, input=names.encode(), check=True, capture_output=True)
    out.write_bytes(packed.stdout)


def _install_wheels(machine: Machine, python: str, requirements: list[str], directory: Path) -> None:
    command = ["python3", "-m", "pip", "install", "--quiet", "--no-compile", f"--target={directory}"]
    command += [f"--platform={machine.wheels}", f"--python-version={python}"]
    command += ["--implementation=cp", "--only-binary=:all:"]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackagesUnavailable(f"pip cannot install for {machine.wheels}:\n{done.stderr.strip()}")


def _pack_disk(tree: Path, out: Path) -> None:
    with out.open("wb") as disk:
        disk.truncate(_DISK_BYTES)
    options = ["-E", "root_owner=0:0", "-O", "^has_journal"]  # a journal would outlive no guest anyway
    subprocess.run(["/sbin/mkfs.ext4", "-q", *options, "-d", tree, out], check=True)
