"""Run a function in a forked child: as another user, or to see what a fork leaves of an object."""

import os
import pickle
import warnings
from collections.abc import Callable
from typing import Any

NOBODY = 65534


def in_forked_child(function: Callable[[], Any], *, user: int | None = None) -> Any:
    """What the function returns, or the exception that it raises, in a child of this process."""
    readable, writable = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads (pytest-timeout has one); the child takes none of their locks.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        os.close(readable)
        _report(function, user, writable)
    os.close(writable)
    try:
        with os.fdopen(readable, "rb") as pipe:
            return pickle.loads(pipe.read())  # noqa: S301 - written by our own child
    finally:
        os.waitpid(child, 0)


def _report(function: Callable[[], Any], user: int | None, writable: int) -> None:
    try:
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        result = function()
    except Exception as error:
        result = error
    finally:
        os.write(writable, pickle.dumps(result))
        os._exit(0)
