"""What holds something that must be given back: a context manager whose end is ``close()``."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """``with`` it, or call ``close()``; leaving the block closes, whatever ended it."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Give back what is held; closing twice is no error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
