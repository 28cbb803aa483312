"""Probes of what concerns other processes, tried on children that exist for nothing else."""

import errno
import subprocess
from pathlib import Path

import numpy as np

from pagewatch.linux.abi.pagemap import PM_SOFT_DIRTY
from pagewatch.linux.adapters import OtherScanner
from pagewatch.linux.pagemap_words import pagemap_words
from pagewatch.linux.probes.rounds import finds_stores
from pagewatch.linux.probes.support import Support
from pagewatch.linux.probes.target import Target, command, ending, started
from pagewatch.linux.proc import hint_for_user
from pagewatch.linux.process import Process
from pagewatch.linux.remote.launch import launch
from pagewatch.vocab.addresses import PAGE_SIZE
from pagewatch.vocab.errors import CannotAttach, NotPermitted

_CLEAR_SOFT_DIRTY = "4\n"
_SOFT_DIRTY_HINT = "a kernel with CONFIG_MEM_SOFT_DIRTY=y; arm64 has none. Tracking by userfaultfd needs none"


def probe_attach() -> Support:
    """Whether writes of a running process are tracked that this user owns and that nobody prepared for it."""
    # The process that does the attaching is the target's sibling, not its parent: a policy that allows tracing
    # only downwards shows.
    try:
        with started() as target, Process(target.pid) as process, process.attach():
            return _tracks(process, target)
    except (CannotAttach, NotPermitted) as error:
        return _refused(error)


def probe_launch() -> Support:
    """Whether writes of a program are tracked from its first instruction on."""
    try:
        launched = launch(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except (CannotAttach, NotPermitted) as error:
        return _refused(error)
    with ending(launched.process), launched, Process(launched.pid) as process, process.adopt(launched.attachment):
        launched.release()
        return _tracks(process, Target(launched.process))


def probe_soft_dirty() -> Support:
    """Whether the soft-dirty bit of /proc/PID/pagemap follows stores, again after it was cleared again.

    Clearing it goes for a whole process and would spoil what others track here, so a child serves.
    """
    with started() as target:
        for round_number, page in enumerate((2, 5), 1):
            try:
                Path(f"/proc/{target.pid}/clear_refs").write_text(_CLEAR_SOFT_DIRTY)
            except OSError as error:
                return _cannot_clear(error)
            before = _soft_dirty_pages(target)
            target.store(page * PAGE_SIZE)
            after = _soft_dirty_pages(target)
            if before or after != [page]:
                return Support.no(_not_following(round_number, page, before, after), _SOFT_DIRTY_HINT)
    return Support.yes()


def _tracks(process: Process, target: Target) -> Support:
    protection = process.lend_protection()
    protection.register(target.start, target.end)
    protection.protect(target.start, target.end)
    with OtherScanner(process.pid) as scanner:
        return finds_stores(target, scanner)


def _refused(error: CannotAttach | NotPermitted) -> Support:
    if isinstance(error, NotPermitted):
        return Support.no("this user may trace no processes, not even a child of its own", error.hint)
    return Support.no(f"tried on a child process: {error.reason}", error.hint)


def _soft_dirty_pages(target: Target) -> list[int]:
    words = pagemap_words(target.pid, target.start, target.end)
    pages: list[int] = np.flatnonzero(words & np.uint64(PM_SOFT_DIRTY)).tolist()
    return pages


def _not_following(round_number: int, page: int, before: list[int], after: list[int]) -> str:
    if before:
        return f"clearing the bit in round {round_number} succeeds and leaves it set"
    if not after:
        return f"clearing the bit succeeds, but in round {round_number} a store does not set it"
    return f"a store into page {page} in round {round_number} set the bit of pages {after}"


def _cannot_clear(error: OSError) -> Support:
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = hint_for_user("run as root", root="allow it in the container or the security policy")
        return Support.no("/proc/PID/clear_refs may not be written, not even of a child", hint)
    if error.errno in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
        return Support.no("this kernel has no way to clear it", _SOFT_DIRTY_HINT)
    raise error
