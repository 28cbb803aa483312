"""The tracker's end: starting a surgeon, asking it, and seeing that it leaves nothing behind."""

import errno
import socket
import subprocess
import sys
import threading
from pathlib import Path

from pagewatch.linux.remote.protocol import MAX_BYTES, RELEASE, Answer, Request, pack, receive, unpack_answer
from pagewatch.vocab.closing import Closing
from pagewatch.vocab.errors import CannotAttach, FeatureMissing

# What it is to run comes over the socket: a command line without our name is out of reach of `pkill -f`.
_BOOT = f"import os, sys; exec(os.read(int(sys.argv[1]), {MAX_BYTES}))"
_MAIN = "sys.path.append({root!r}); from pagewatch.linux.remote.surgeon import main; main({descriptor})"
_ROOT = str(Path(__file__).parents[3])  # what the package itself was imported from
_GRACE_S = 5.0
# Another error, such as a want of descriptors or processes, says nothing about the interpreter.
_NOT_RUNNABLE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC)


class Surgeon(Closing):
    """A surgeon process, waiting for its one request; a context manager.

    It is started before its target is stopped, so that its start-up costs the target nothing.
    """

    def __init__(self) -> None:
        """Start it.

        :raises FeatureMissing: there is no interpreter to run it (this Python is embedded in another program).
        """
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._socket.send(_MAIN.format(root=_ROOT, descriptor=theirs.fileno()).encode())
                # Isolated and without site packages: quick to start, and nobody's environment changes what it does.
                self._process = subprocess.Popen(
                    [Path(sys.executable).resolve(), "-I", "-S", "-c", _BOOT, str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    cwd="/",
                )
            except OSError as error:
                self._socket.close()
                if error.errno not in _NOT_RUNNABLE:
                    raise
                reason = f"the interpreter {sys.executable!r} cannot be run: {error.strerror}"
                raise FeatureMissing("attach", reason, "set sys.executable to its path") from None

    @property
    def pid(self) -> int:
        """Of the surgeon itself: who will trace the target."""
        return self._process.pid

    def ask(self, request: Request, descriptors: list[int]) -> tuple[Answer, int]:
        """Have the operation done; its answer, and a userfaultfd that the caller closes.

        :raises PagewatchError: as the surgeon raised it.
        """
        try:
            # Starting may take long on a busy machine, and costs the target nothing; if it fails, this ends.
            receive(self._socket, max_descriptors=0)
            self._socket.settimeout(2 * request.timeout_ns / 1e9 + _GRACE_S)
            socket.send_fds(self._socket, [pack(request)], descriptors)
            data, received = receive(self._socket, max_descriptors=1)
        except TimeoutError:
            raise CannotAttach(request.pid, "the operation is not finished", "its thread may be frozen") from None
        except OSError:
            data, received = b"", []
        if not data:
            raise CannotAttach(request.pid, f"the helper process failed: {self._last_words()}")
        answer = unpack_answer(data)
        return answer, received[0]

    def release(self) -> None:
        """Let a launched program run; doing so twice, or after it ended, is no error."""
        try:
            self._socket.send(RELEASE, socket.MSG_NOSIGNAL)
        except OSError:
            return

    def close(self) -> None:
        """Wait until the surgeon is gone; a launched program that was not released yet runs from here on."""
        self._socket.close()
        if self._process.stderr is not None:
            self._process.stderr.close()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            # It will not leave its patient half-way; somebody must collect it when it is done.
            threading.Thread(target=self._process.wait, daemon=True).start()

    def _last_words(self) -> str:
        if self._process.stderr is None:
            return ""
        # At its end of the socket it is exiting, so this ends.
        lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self._process.wait(_GRACE_S)}"
