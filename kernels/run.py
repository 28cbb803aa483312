"""Run the project's tests, or any command, inside other kernels: `python kernels/run.py --help`."""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from functools import partial
from pathlib import Path

import catalogue
from guests import Guest, GuestFailed, GuestTimedOut
from images import ImageCache, default_cache
from packages import PackagesUnavailable

_PROJECT = Path(__file__).resolve().parents[1]
_NOT_IN_GUESTS = ("selenium",)  # a guest has no browser
_IMPORTED = "hypothesis.stateful, numpy.testing, pyarrow.ipc, pytest, pytest_timeout, rich.console, click"
EXIT_TIMED_OUT = 124  # as timeout(1)
EXIT_NO_RESULT = 125
EXIT_NO_PACKAGES = 77  # as automake's tests say: what is needed is not to be had here
EXIT_TERMINATED = 128 + signal.SIGTERM


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernel", action="append", choices=[*catalogue.KERNELS], help="default: every kernel")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="default: %(default)s")
    parser.add_argument("--refresh", action="store_true", help="rebuild what is cached from today's packages")
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="per kernel, with the boot")
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="default: %(default)s")
    parser.add_argument("command", nargs="*", help="after --; default: each kernel's own selection of tests")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.flush()
    print(f"kernels: {line}", file=sys.stderr, flush=True)


def _project_files() -> list[tuple[str, Path]]:
    """Tracked files and new ones that are not ignored: what a commit of the work tree would hold."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=_PROJECT, check=True, capture_output=True, text=True).stdout
    paths = ((name, _PROJECT / name) for name in listed.split("\0") if name)
    return [(name, path) for name, path in paths if path.is_file()]


def _requirements() -> list[str]:
    """What the project and its tests need, from its own declaration."""
    project = tomllib.loads((_PROJECT / "pyproject.toml").read_text())
    wanted: list[str] = project["project"]["dependencies"] + project["dependency-groups"]["test"]
    return [each for each in wanted if not each.startswith(_NOT_IN_GUESTS)]


def _guest(kernel: catalogue.Kernel, cache: ImageCache, memory_mib: int) -> Guest:
    vmlinuz, initramfs = cache.kernel(kernel)
    boot = partial(Guest, machine=kernel.machine, vmlinuz=vmlinuz, initramfs=initramfs, memory_mib=memory_mib)

    def keep_bytecode(disk: Path) -> None:
        # Compiling what the tests import takes a guest longer than most of the tests themselves.
        command = f"python3 -c 'import {_IMPORTED}'"
        if boot(disk=disk, keeps_disk=True).run(command, _project_files(), timeout_s=600):
            raise GuestFailed("a new disk's Python cannot import what the tests need")

    return boot(disk=cache.userland(kernel.machine, _requirements(), keep_bytecode))


def _run_on(kernel: catalogue.Kernel, cache: ImageCache, options: argparse.Namespace) -> int:
    command = shlex.join(options.command) if options.command else kernel.selection
    started = time.monotonic()
    try:
        guest = _guest(kernel, cache, options.memory)
        _say(f"{kernel.name}: {command}")
        status = guest.run(command, _project_files(), timeout_s=options.timeout)
    except GuestFailed as failure:
        _say(f"{kernel.name}: {failure}")
        return EXIT_TIMED_OUT if isinstance(failure, GuestTimedOut) else EXIT_NO_RESULT
    _say(f"{kernel.name}: exit status {status} after {time.monotonic() - started:.0f} s")
    return status


def main() -> int:
    """Run on the chosen kernels in turn; the status is the first one that is not 0."""
    options = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # so that everything is cleaned up
    cache = ImageCache(options.cache, refresh=options.refresh, say=_say)
    chosen = [catalogue.KERNELS[name] for name in options.kernel or catalogue.KERNELS]
    try:
        statuses = [_run_on(kernel, cache, options) for kernel in chosen]
    except PackagesUnavailable as problem:
        _say(str(problem))
        return EXIT_NO_PACKAGES
    return next((status for status in statuses if status), 0)


if __name__ == "__main__":
    sys.exit(main())
