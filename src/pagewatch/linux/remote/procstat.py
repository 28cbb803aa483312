"""/proc/PID/stat, its threads and children: the little that telling processes apart takes."""

from dataclasses import dataclass
from pathlib import Path

from pagewatch.linux.abi.ptrace import PF_KTHREAD
from pagewatch.linux.proc import parse_fields

_GONE = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, slots=True)
class ProcStat:
    """What /proc/PID/stat, or /proc/PID/task/TID/stat, says of a process or thread."""

    command: str
    """Up to 15 bytes, of any kind: blanks, parentheses and newlines included."""
    state: str
    """One letter: R running, S sleeping, D sleeping and deaf, T stopped, t traced, Z exited, X gone."""
    parent: int
    flags: int
    start_ticks: int
    """Since boot, in clock ticks: together with the pid it names a process for good."""

    @property
    def has_exited(self) -> bool:
        """A zombie, or about to vanish."""
        return self.state in "ZX"

    @property
    def is_kernel_thread(self) -> bool:
        """Part of the kernel, with no memory of its own."""
        return bool(self.flags & PF_KTHREAD)


def parse_stat(text: str) -> ProcStat:
    """Read the one line of a stat file; the command may itself contain ``) R 1``, so its last parenthesis counts."""
    before, _, after = text.rpartition(") ")
    fields = after.split()
    return ProcStat(
        command=before.partition(" (")[2],
        state=fields[0],
        parent=int(fields[1]),
        flags=int(fields[6]),
        start_ticks=int(fields[19]),
    )


def read_stat(pid: int, tid: int | None = None) -> ProcStat | None:
    """Of a process, or of one of its threads; None if there is none (or /proc hides it)."""
    path = f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat"
    try:
        return parse_stat(Path(path).read_bytes().decode(errors="replace"))
    except _GONE:
        return None


def read_status(pid: int, tid: int) -> dict[str, str]:
    """The fields of a thread's status file; none if it is gone."""
    try:
        return parse_fields(Path(f"/proc/{pid}/task/{tid}/status").read_bytes().decode(errors="replace"))
    except _GONE:
        return {}


def thread_ids(pid: int) -> list[int]:
    """All threads that /proc lists, ascending; the leader stays listed after it exited, until the last one has."""
    try:
        return sorted(int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir())
    except _GONE:
        return []


def live_threads(pid: int) -> list[tuple[int, ProcStat]]:
    """Threads that have not exited, the leader first."""
    listed = ((tid, read_stat(pid, tid)) for tid in thread_ids(pid))
    living = [(tid, stat) for tid, stat in listed if stat is not None and not stat.has_exited]
    return sorted(living, key=lambda thread: (thread[0] != pid, thread[0]))


def child_ids(pid: int) -> list[int]:
    """Processes whose parent this is, ascending, zombies included."""
    found: set[int] = set()
    for tid in thread_ids(pid):
        try:
            found.update(map(int, Path(f"/proc/{pid}/task/{tid}/children").read_text().split()))
        except FileNotFoundError:
            # Either the thread has just exited, or the kernel was built without CONFIG_PROC_CHILDREN.
            if Path(f"/proc/{pid}/task/{tid}").exists():
                return _children_by_parent(pid)
        except ProcessLookupError:
            continue
    return sorted(found)


def _children_by_parent(pid: int) -> list[int]:
    every = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    return sorted(other for other in every if (stat := read_stat(other)) is not None and stat.parent == pid)
