"""Errors keep what they know, also on their way through another process, and are what callers catch already."""

import copy
import inspect
import pickle

import pytest

from pagewatch.vocab import errors
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
from pagewatch.vocab.regions import Regions
from pagewatch.vocab.scan import Scan

UNARMED = Regions([(0x3000, 0x5000), (0x8000, 0x9000)])
SCANNED = Scan(Regions([(0x1000, 0x2000, Category.WRITTEN)]), 0x3000, complete=False)

EXAMPLES = [
    InvalidArgument("start is odd"),
    QueryError("unknown category"),
    FeatureMissing("pagemap_scan", "not in this kernel", "Linux 6.7"),
    NotPermitted("it is refused", "be root"),
    TargetGone(17, "replaced its memory by exec"),
    CannotAttach(17, "it is traced by 5", "stop the tracer"),
    CannotLaunch("sleep", "it is not on PATH", "give its full path"),
    RangeNotArmed(UNARMED, SCANNED),
    RangeNotTrackable(0x1000, 0x2000, "the kernel refuses"),
    TrackerBusy("a signal handler called"),
    TrackerClosed("the tracker is closed"),
    TraceError("/a/recording", "cut off"),
    CheckpointError("no such step"),
]
WITH_EXAMPLES = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


def test_there_is_an_example_of_every_error():
    public = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PagewatchError)}
    assert {type(error) for error in EXAMPLES} == public - {PagewatchError}


@WITH_EXAMPLES
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(error, protocol):
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


@WITH_EXAMPLES
def test_errors_survive_copying(error):
    again = copy.copy(error)
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


@WITH_EXAMPLES
def test_every_error_can_be_caught_as_ours(error):
    with pytest.raises(PagewatchError):
        raise error


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InvalidArgument, ValueError),
        (QueryError, ValueError),
        (FeatureMissing, NotImplementedError),
        (NotPermitted, PermissionError),
        (TargetGone, ProcessLookupError),
        (CannotAttach, OSError),
        (CannotLaunch, OSError),
        (RangeNotArmed, LookupError),
        (RangeNotTrackable, ValueError),
        (TrackerBusy, RuntimeError),
        (TrackerClosed, ValueError),
        (TraceError, ValueError),
        (CheckpointError, ValueError),
    ],
)
def test_every_error_is_the_builtin_that_callers_catch(kind, builtin):
    assert issubclass(kind, builtin)


def test_feature_missing_names_feature_reason_and_hint():
    error = FeatureMissing("attach", "no ptrace", "add SYS_PTRACE")
    assert (error.feature, error.reason, error.hint) == ("attach", "no ptrace", "add SYS_PTRACE")
    assert str(error) == "attach: no ptrace (add SYS_PTRACE)"
    assert str(FeatureMissing("attach", "no ptrace")) == "attach: no ptrace"


def test_target_gone_names_the_pid():
    error = TargetGone(42)
    assert (error.pid, error.reason, str(error)) == (42, "exited", "process 42 exited")


def test_cannot_attach_names_pid_reason_and_hint():
    error = CannotAttach(42, "it is a 32-bit program", "use a 64-bit one")
    assert (error.pid, error.reason, error.hint) == (42, "it is a 32-bit program", "use a 64-bit one")
    assert str(error) == "cannot attach to process 42: it is a 32-bit program (use a 64-bit one)"


def test_cannot_launch_names_command_reason_and_hint():
    error = CannotLaunch("sleep", "it is not on PATH", "give its full path")
    assert (error.command, error.reason, error.hint) == ("sleep", "it is not on PATH", "give its full path")
    assert str(error) == "cannot start sleep: it is not on PATH (give its full path)"


def test_not_permitted_prints_the_hint():
    error = NotPermitted("ptrace is refused", "be root")
    assert (error.reason, error.hint, str(error)) == ("ptrace is refused", "be root", "ptrace is refused (be root)")


def test_range_not_armed_carries_the_gaps_and_what_was_scanned():
    error = RangeNotArmed(UNARMED, SCANNED)
    assert error.regions == UNARMED
    assert error.scan is SCANNED
    assert str(error) == "12288 bytes of the range are not armed (first: 0x3000-0x5000)"


def test_range_not_armed_may_know_no_gap():
    error = RangeNotArmed(Regions())
    assert (len(error.regions), error.scan) == (0, None)
    assert str(error) == "0 bytes of the range are not armed"


def test_range_not_trackable_names_its_bounds():
    error = RangeNotTrackable(0x1000, 0x3000, "no such memory")
    assert (error.start, error.end, error.reason) == (0x1000, 0x3000, "no such memory")
    assert str(error) == "cannot track 0x1000-0x3000: no such memory"


def test_trace_error_names_the_path():
    error = TraceError("/a/b", "is cut off")
    assert (error.path, error.reason, str(error)) == ("/a/b", "is cut off", "/a/b: is cut off")
