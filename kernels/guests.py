"""Boots one kernel under qemu's emulation and runs one command in it.

The guest has no network and no state: changes to its disk are thrown away. The command's output comes through
a virtio port that is this process' standard output, its exit status through another that is a file, and
the kernel's console goes to a third place: nothing that a command or a kernel prints is taken for something else.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalogue import Machine


class GuestFailed(Exception):
    """The guest ended, or had to be ended, before the command did; the message shows its console's end."""


class GuestTimedOut(GuestFailed):
    """The time was up. A deadlocked kernel looks like this, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """What to boot."""

    machine: Machine
    vmlinuz: Path
    initramfs: Path
    disk: Path
    cpus: int = 2
    memory_mib: int = 2048
    keeps_disk: bool = False
    """Write changes to the disk image itself."""

    def run(self, command: str, project: Iterable[tuple[str, Path]], *, timeout_s: float) -> int:
        """Run a shell command in /project, which holds the files of *project* as (name there, path here).

        :returns: the command's exit status.
        :raises GuestTimedOut: it took longer than *timeout_s* seconds, boot included.
        :raises GuestFailed: the kernel panicked, or could not boot.
        """
        with tempfile.TemporaryDirectory(prefix="pagewatch-guest-") as directory:
            work = Path(directory)
            _write_tar(work / "project.tar", project, command)
            (work / "console").touch()
            (work / "status").touch()
            try:
                with _silent_input() as silence:
                    subprocess.run(self._qemu(work), stdin=silence, check=True, timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise GuestTimedOut(f"not done after {timeout_s:.0f} s{_console_end(work)}") from None
            except subprocess.CalledProcessError as failure:
                raise GuestFailed(f"qemu exited with status {failure.returncode}") from None
            status = (work / "status").read_text()
            if not status:
                raise GuestFailed(f"the guest ended before the command{_console_end(work)}")
            return int(status)

    def _qemu(self, work: Path) -> list[str]:
        keep = "off" if self.keeps_disk else "on"
        # panic=-1 with -no-reboot: a panic ends qemu at once. oops=panic: no result from a damaged kernel.
        boot = f"{self.machine.boot} rdinit=/init panic=-1 oops=panic loglevel=5"
        return [
            *("setpriv", "--pdeathsig", "KILL", "--"),  # killed with us, however we end
            *self.machine.qemu,
            # One thread for all CPUs: with one each, on a busy host, a CPU of the guest sometimes runs into an
            # instruction that another is just patching (oops "int3" in a jump label), and the guest is gone.
            *("-accel", "tcg,thread=single", "-smp", str(self.cpus), "-m", str(self.memory_mib)),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(self.vmlinuz), "-initrd", str(self.initramfs), "-append", boot),
            *("-drive", f"file={self.disk},format=raw,if=virtio,snapshot={keep}"),
            *("-drive", f"file={work}/project.tar,format=raw,if=virtio,readonly=on"),
            *("-serial", f"file:{work}/console"),
            *("-device", "virtio-serial-pci"),
            *("-chardev", "stdio,id=output,signal=off", "-device", "virtserialport,chardev=output,name=output"),
            *("-chardev", f"file,id=status,path={work}/status"),
            *("-device", "virtserialport,chardev=status,name=status"),
        ]


@contextmanager
def _silent_input() -> Iterator[int]:
    """Yield an input that says nothing and does not end: at an end of file qemu would unplug the output, too."""
    read_end, write_end = os.pipe()
    try:
        yield read_end
    finally:
        os.close(read_end)
        os.close(write_end)


def _write_tar(out: Path, project: Iterable[tuple[str, Path]], command: str) -> None:
    """Uncompressed, because the guest reads it straight from a disk: no file system to make, none to mount."""
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, path in project:
            tar.add(path, name, recursive=False)
        script = tarfile.TarInfo(".guest/command")
        script.size = len(command.encode())
        script.mtime = time.time()
        tar.addfile(script, BytesIO(command.encode()))


def _console_end(work: Path, lines: int = 40) -> str:
    text = (work / "console").read_text(errors="replace").replace("\r", "")
    end = "\n".join(text.splitlines()[-lines:])
    return f"; its console ended with:\n{end}" if end else "; its console is empty"
