"""Run a function in a forked child: as another user, or to see what a fork or a death leaves of an object."""

import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

NOBODY = 65534


def in_forked_child(function: Callable[[], Any], *, user: int | None = None) -> Any:
    """What the function returns, or the exception that it raises, in a child of this process."""
    with forked_child(function, user=user) as (_, result):
        return result


@contextmanager
def forked_child(function: Callable[[], Any], *, user: int | None = None) -> Iterator[tuple[int, Any]]:
    """Pid of a child that has run the function and now waits to be killed, and what the function returned."""
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads (pytest-timeout has one); the child takes none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os.close(readable)
        _run(function, user, writable)
    os.close(writable)
    try:
        with os.fdopen(readable, "rb") as pipe:
            yield child, pickle.load(pipe)  # noqa: S301 - written by our own child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _run(function: Callable[[], Any], user: int | None, writable: int) -> NoReturn:
    try:
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        result = function()
    except Exception as error:
        result = error
    try:
        os.write(writable, pickle.dumps(result))
        while True:
            signal.pause()
    finally:
        os._exit(1)
