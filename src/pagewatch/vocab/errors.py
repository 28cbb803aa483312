"""Every error of this library.

Each derives from :class:`PagewatchError` and from the builtin that callers already catch, and carries
what it knows as attributes.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagewatch.vocab.regions import Regions
    from pagewatch.vocab.scan import Scan


class PagewatchError(Exception):
    """Base of every error that this library raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        # BaseException would call the class with the finished message, which fits no __init__ below.
        return _restored, (type(self), self.args, self.__dict__)


class InvalidArgument(PagewatchError, ValueError):
    """An argument is out of range, misaligned or of the wrong shape."""


class QueryError(InvalidArgument):
    """A query that cannot be expressed by the four masks of PAGEMAP_SCAN, or cannot be read."""


class FeatureMissing(PagewatchError, NotImplementedError):
    """The kernel, machine or installation lacks something; ``hint`` says how to get it."""

    def __init__(self, feature: str, reason: str, hint: str = "") -> None:
        """:param feature: name as printed by ``pagewatch doctor``."""
        super().__init__(f"{feature}: {reason}" + (f" ({hint})" if hint else ""))
        self.feature = feature
        self.reason = reason
        self.hint = hint


class NotPermitted(PagewatchError, PermissionError):
    """The kernel can, but this user may not; ``hint`` says what right is missing."""

    def __init__(self, reason: str, hint: str = "") -> None:
        """:param reason: what was refused, in words."""
        super().__init__(reason + (f" ({hint})" if hint else ""))
        self.reason = reason
        self.hint = hint


class TargetGone(PagewatchError, ProcessLookupError):
    """The process exited, or replaced its memory by exec."""

    def __init__(self, pid: int, reason: str = "exited") -> None:
        """:param reason: completes "process PID ..."."""
        super().__init__(f"process {pid} {reason}")
        self.pid = pid
        self.reason = reason


class CannotAttach(PagewatchError, OSError):
    """The process exists and we may see it, but it cannot be attached to safely; it was left as it was."""

    def __init__(self, pid: int, reason: str, hint: str = "") -> None:
        """:param reason: completes "cannot attach to process PID: ..."."""
        super().__init__(f"cannot attach to process {pid}: {reason}" + (f" ({hint})" if hint else ""))
        self.pid = pid
        self.reason = reason
        self.hint = hint


class CannotLaunch(PagewatchError, OSError):
    """A program could not be started; nothing of it ran."""

    def __init__(self, command: str, reason: str, hint: str = "") -> None:
        """:param reason: completes "cannot start COMMAND: ..."."""
        super().__init__(f"cannot start {command}: {reason}" + (f" ({hint})" if hint else ""))
        self.command = command
        self.reason = reason
        self.hint = hint


class RangeNotArmed(PagewatchError, LookupError):
    """Part of a range is not under asynchronous write-protection.

    ``regions`` are the parts that are not. ``scan`` is what the call had reported (and, when protecting,
    re-armed) before it met them; it is never lost.
    """

    def __init__(self, regions: "Regions", scan: "Scan | None" = None) -> None:
        """:param regions: the mapped parts that are not armed."""
        first = f" (first: {regions[0].start:#x}-{regions[0].end:#x})" if len(regions) else ""
        super().__init__(f"{regions.nbytes} bytes of the range are not armed{first}")
        self.regions = regions
        self.scan = scan


class RangeNotTrackable(PagewatchError, ValueError):
    """The kernel refuses to write-protect this memory; ``start`` and ``end`` are bytes."""

    def __init__(self, start: int, end: int, reason: str) -> None:
        """:param reason: completes "cannot track START-END: ..."."""
        super().__init__(f"cannot track {start:#x}-{end:#x}: {reason}")
        self.start = start
        self.end = end
        self.reason = reason


class TrackerClosed(PagewatchError, ValueError):
    """The tracker, process or recording was closed, or belongs to the parent of a fork."""


class TrackerBusy(PagewatchError, RuntimeError):
    """A signal handler called a tracker that the thread it interrupted is using: to wait would be for ever."""


class TraceError(PagewatchError, ValueError):
    """A recording that cannot be read or written; ``path`` names it."""

    def __init__(self, path: object, reason: str) -> None:
        """:param reason: completes "PATH: ..."."""
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class CheckpointError(PagewatchError, ValueError):
    """A checkpoint store that cannot be read or written."""


def _restored(kind: type[PagewatchError], args: tuple[Any, ...], attributes: dict[str, Any]) -> PagewatchError:
    """An error as it was in the process that pickled it."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    return error
