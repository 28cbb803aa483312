"""pagewatch: which pages of memory were written, exactly and cheaply, on Linux.

The rooms of the house; each depends only on rooms below it (import-linter holds the code to that)::

    cli                                   commands; the only place that turns errors into exit codes
    report   record                       numbers and pictures of recordings; tracker to recording
    trace                                 the recording format, written and read
    watch                                 write watch as Windows has it, for memory of this process
    open                                  the composition root: trackers meet a world only here
    trackers | linux | testing             policy | the live kernel | conformance suites
    scenarios                             stories on the modelled kernel, scripted and explored
    model | explore                       the modelled kernel | interleavings of whatever announces its steps
    ports | steps                         what a world offers to trackers: narrow Protocols | the hook for schedulers
    vocab                                 addresses, categories, queries, regions, mappings, errors

Names are loaded when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pagewatch._version import __version__ as __version__

if TYPE_CHECKING:
    from pagewatch.linux.features import Features, features
    from pagewatch.linux.process import Process
    from pagewatch.open import track
    from pagewatch.trackers.base import Epoch, Tracker, TrackerStatistics
    from pagewatch.vocab.blindspots import BlindReason, BlindSpot
    from pagewatch.vocab.categories import Category
    from pagewatch.vocab.errors import (
        CannotAttach,
        CannotLaunch,
        CheckpointError,
        FeatureMissing,
        InvalidArgument,
        NotPermitted,
        PagewatchError,
        QueryError,
        RangeNotArmed,
        RangeNotTrackable,
        TargetGone,
        TraceError,
        TrackerBusy,
        TrackerClosed,
    )
    from pagewatch.vocab.mapping import Mapping
    from pagewatch.vocab.query import Query
    from pagewatch.vocab.regions import Region, Regions
    from pagewatch.vocab.scan import Scan
    from pagewatch.watch import WriteWatch

_HOMES = {
    "pagewatch.linux.features": ("Features", "features"),
    "pagewatch.linux.process": ("Process",),
    "pagewatch.open": ("track",),
    "pagewatch.trackers.base": ("Epoch", "Tracker", "TrackerStatistics"),
    "pagewatch.vocab.blindspots": ("BlindReason", "BlindSpot"),
    "pagewatch.vocab.categories": ("Category",),
    "pagewatch.vocab.errors": (
        "CannotAttach",
        "CannotLaunch",
        "CheckpointError",
        "FeatureMissing",
        "InvalidArgument",
        "NotPermitted",
        "PagewatchError",
        "QueryError",
        "RangeNotArmed",
        "RangeNotTrackable",
        "TargetGone",
        "TraceError",
        "TrackerBusy",
        "TrackerClosed",
    ),
    "pagewatch.vocab.mapping": ("Mapping",),
    "pagewatch.vocab.query": ("Query",),
    "pagewatch.vocab.regions": ("Region", "Regions"),
    "pagewatch.vocab.scan": ("Scan",),
    "pagewatch.watch": ("WriteWatch",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "BlindReason",
    "BlindSpot",
    "CannotAttach",
    "CannotLaunch",
    "Category",
    "CheckpointError",
    "Epoch",
    "FeatureMissing",
    "Features",
    "InvalidArgument",
    "Mapping",
    "NotPermitted",
    "PagewatchError",
    "Process",
    "Query",
    "QueryError",
    "RangeNotArmed",
    "RangeNotTrackable",
    "Region",
    "Regions",
    "Scan",
    "TargetGone",
    "TraceError",
    "Tracker",
    "TrackerBusy",
    "TrackerClosed",
    "TrackerStatistics",
    "WriteWatch",
    "features",
    "track",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pagewatch' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
