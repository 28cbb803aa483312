"""The directory of a recording: claimed for writing without harming anything else, opened with suspicion."""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pagewatch.trace.format import FILES, JOURNAL, JOURNAL_START
from pagewatch.vocab.errors import TraceError

_FILES = (*FILES.values(), JOURNAL)
_NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def check_output(path: Path, *, force: bool = False) -> None:
    """Make sure that a recording can be written to ``path``, before anything is started for it.

    Creates the directory. An existing recording stays as it is; :func:`clear` removes it.

    :param force: accept a directory that holds a recording.
    :raises TraceError: it exists and must not be overwritten, or cannot be written to.
    """
    try:
        if not path.is_dir() or path.is_symlink():
            path.mkdir()
        elif not force or not is_recording(path):
            _refuse_used(path)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError:
        raise TraceError(path, "exists and is not a directory; give another name with -o") from None
    except FileNotFoundError:
        raise TraceError(path, f"there is no directory {path.parent} to put it into") from None
    except OSError as error:
        raise TraceError(path, f"cannot be written to ({error.strerror}); give another place with -o") from None


def clear(path: Path) -> None:
    """Remove the recording that a directory holds, and nothing else.

    :raises TraceError: a file cannot be removed.
    """
    try:
        # The journal goes last: until then the rest is still recognised as a recording.
        for name in _FILES:
            with suppress(FileNotFoundError):
                (path / name).unlink()
    except OSError as error:
        raise TraceError(path, f"the old recording cannot be removed ({error.strerror})") from None


def is_recording(path: Path) -> bool:
    """Whether a directory holds what looks like a recording (which need not be sound)."""
    try:
        with open_file(path, JOURNAL) as file:
            return file.read(len(JOURNAL_START)) == JOURNAL_START
    except TraceError:
        return False


def open_file(path: Path, name: str) -> BinaryIO:
    """Open a file of a recording for reading.

    :raises TraceError: it is missing, or something else than a plain file: a recording from elsewhere could
        point out of its directory or make the reader wait for ever.
    """
    file_path = path / name
    try:
        fd = os.open(file_path, os.O_RDONLY | _NO_FOLLOW)
    except FileNotFoundError:
        problem = "is missing" if path.is_dir() else "there is no such recording"
        raise TraceError(file_path if path.is_dir() else path, problem) from None
    except NotADirectoryError:
        raise TraceError(path, "not a recording: it is not a directory") from None
    except OSError as error:
        problem = "is a link, not a file" if file_path.is_symlink() else f"cannot be opened ({error.strerror})"
        raise TraceError(file_path, problem) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise TraceError(file_path, "is not a plain file")
    return os.fdopen(fd, "rb")


def _refuse_used(path: Path) -> None:
    if is_recording(path):
        raise TraceError(path, "holds a recording; overwrite it with --force or give another name with -o")
    if any(path.iterdir()):
        raise TraceError(path, "is not empty and not a recording; give another name with -o")
