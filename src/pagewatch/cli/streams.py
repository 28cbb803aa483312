"""The standard streams as a command finds them: closed ones, encodings without the letters of a report, widths."""

import codecs
import errno
import io
import os
import shutil
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from rich.console import Console

LEAST_COLUMNS = 40
_USUAL_COLUMNS = 80
_LOOKALIKES = str.maketrans("·×–…≤≥─│└┤┴░▒▓█▀▁▂▃▄▅▆▇▉▊▋▌▍▎▏", '.x-.<>-|+|+-:*#"..::**########')
_ERRORS = "pagewatch.lookalike"


class _Closed(io.RawIOBase):
    """Fails as the closed descriptor that it stands for would, and says which that is."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, _buffer: "WriteableBuffer") -> int:
        raise self._error()

    def write(self, _data: object) -> int:
        raise self._error()

    def _error(self) -> OSError:
        return OSError(errno.EBADF, os.strerror(errno.EBADF), self._name)


def prepare() -> None:
    """Make the standard streams safe to use; to be called before anything is opened.

    The number of a closed one would be given to the next file that is opened: programs that are started would
    take that for theirs. What is put there instead fails, for them and for us, as a closed one does; but that
    nobody hears our messages is no failure.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, mode), True)  # noqa: FBT003 - its only form
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(_Closed("the standard input"))
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(_Closed("the standard output"), write_through=True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as long as we live
    codecs.register_error(_ERRORS, _with_lookalikes)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors=_ERRORS)


def forsake(descriptor: int) -> None:
    """What is still to be written there would fail once more when Python exits: let it go nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def console(columns: int | None = None) -> "Console":
    """The standard output for rich text.

    :param columns: letters a line; default: the terminal's, at least 40.
    """
    from rich.console import Console, ConsoleDimensions  # noqa: PLC0415 - slow to load

    made = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if columns is None:
        # Of a dumb terminal rich does not ask the width.
        found = shutil.get_terminal_size().columns if made.is_dumb_terminal else made.width
        columns = max(LEAST_COLUMNS, found or _USUAL_COLUMNS)
    # Without a height, too, rich would not keep to the width on a dumb terminal.
    made.size = ConsoleDimensions(columns, made.height)
    return made


def _with_lookalikes(error: UnicodeError) -> tuple[str, int]:
    """One letter for each that the encoding lacks, so that columns stay columns."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end].translate(_LOOKALIKES)
    return "".join(letter if letter.isascii() else "?" for letter in lacking), error.end
