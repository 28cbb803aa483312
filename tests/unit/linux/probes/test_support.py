import errno
from collections.abc import Callable

import pytest

from pagewatch.linux.probes import support
from pagewatch.linux.probes.support import Support, ask
from pagewatch.vocab.errors import CannotAttach, CannotLaunch, FeatureMissing, NotPermitted


def failing(error: Exception) -> Callable[[], Support]:
    def probe() -> Support:
        raise error

    return probe


def test_an_answer_passes_unchanged() -> None:
    answer = Support.yes("by itself")
    assert ask(lambda: answer) is answer


@pytest.mark.parametrize(
    "error",
    [
        FeatureMissing("thing", "there is none", "get one"),
        NotPermitted("there is none", "get one"),
        CannotAttach(1, "there is none", "get one"),
        CannotLaunch("program", "there is none", "get one"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_the_library_calls_missing_is_an_answer(error: Exception) -> None:
    assert ask(failing(error)) == Support(ok=False, reason="there is none", hint="get one")


@pytest.mark.parametrize("error", [ValueError("odd"), OSError(errno.EIO, "odd"), AssertionError("odd")])
def test_an_unforeseen_failure_is_neither_hidden_nor_fatal(error: Exception) -> None:
    answer = ask(failing(error))
    assert not answer.ok
    assert answer.error is error
    assert type(error).__name__ in answer.reason
    assert "odd" in answer.reason
    assert "report" in answer.hint


def test_an_interrupt_is_no_answer() -> None:
    def probe() -> Support:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(probe)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_want_of_means_is_no_bug(number: int) -> None:
    answer = ask(failing(OSError(number, "used up")))
    assert not answer.ok
    assert answer.error is None
    assert "used up" in answer.reason
    assert "ulimit" in answer.hint


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_a_refusal_is_put_down_to_a_filter_only_where_there_is_one(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = failing(OSError(number, "some_call: no"))
    monkeypatch.setattr(support, "under_seccomp_filter", lambda: True)
    under_filter = ask(refused)
    assert under_filter.error is None
    assert "seccomp" in under_filter.reason
    assert "some_call" in under_filter.reason
    monkeypatch.setattr(support, "under_seccomp_filter", lambda: False)
    assert isinstance(ask(refused).error, OSError)
