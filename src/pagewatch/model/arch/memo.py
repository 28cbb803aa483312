"""Remembering what few arguments give."""

from collections.abc import Callable


class Memo(dict[int, int]):
    """A pure function of few different ints, computed once for each."""

    def __init__(self, function: Callable[[int], int]) -> None:
        """:param function: pure; what it raises is not remembered."""
        super().__init__()
        self._function = function

    def __missing__(self, argument: int) -> int:
        """Compute, remember, return."""
        self[argument] = result = self._function(argument)
        return result
