"""Refusals by the number of their error."""

from collections.abc import Callable


def errno_of(call: Callable[..., object], *arguments: object) -> int:
    """The errno that a call is refused with; 0 where it is not."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno or -1
    return 0
