"""Telling the stops of a tracee apart, by the numbers that ptrace(2) gives."""

import signal

import pytest

from pagewatch.linux.remote.tracee import Stop

# status >> 8 & 0xff and status >> 16, and what they mean.
_STOPS = {
    "interrupted": (5, 128, {"is_trap"}, 0),
    "stopped by SIGSTOP": (19, 128, {"is_trap", "is_group_stop"}, 0),
    "stopped by SIGTTIN": (21, 128, {"is_trap", "is_group_stop"}, 0),
    "at a system call": (5 | 0x80, 0, {"is_syscall"}, 0),
    "program loaded": (5, 4, {"is_exec"}, 0),
    "a signal to be delivered": (10, 0, set(), 10),
    "a real SIGTRAP to be delivered": (5, 0, set(), 5),
    "a real SIGSTOP to be delivered": (19, 0, set(), 19),
}


@pytest.mark.parametrize(("number", "event", "kinds", "undelivered"), _STOPS.values(), ids=_STOPS)
def test_stop_is_of_one_kind(number: int, event: int, kinds: set[str], undelivered: int) -> None:
    stop = Stop(number, event)
    assert {name for name in ("is_trap", "is_group_stop", "is_syscall", "is_exec") if getattr(stop, name)} == kinds
    assert stop.undelivered == undelivered


def test_numbers_of_this_test_are_the_systems() -> None:
    assert (signal.SIGTRAP, signal.SIGSTOP, signal.SIGTTIN, signal.SIGUSR1) == (5, 19, 21, 10)
