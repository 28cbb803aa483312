"""What passes between a tracker and its surgeon: one JSON request, one JSON answer, each a single datagram."""

import array
import json
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pagewatch.vocab.errors import CannotAttach, FeatureMissing, NotPermitted, PagewatchError, TargetGone

MAX_BYTES = 1 << 16
READY = b"ready"
"""From surgeon to tracker: it has started, and a request is served at once. From shim to tracker: it may be traced."""
RELEASE = b"release"
"""From tracker to surgeon: a launched program may run."""
GO = b"go"
"""From surgeon to shim: the program may be loaded."""

_ATTRIBUTES: dict[type[PagewatchError], tuple[str, ...]] = {
    CannotAttach: ("pid", "reason", "hint"),
    FeatureMissing: ("feature", "reason", "hint"),
    NotPermitted: ("reason", "hint"),
    TargetGone: ("pid", "reason"),
}
_KINDS = {kind.__name__: kind for kind in _ATTRIBUTES}


@dataclass(frozen=True, slots=True)
class Request:
    """What the surgeon is asked for; the target's pidfd, and the gate of a launch, go with it as descriptors."""

    pid: int
    timeout_ns: int
    at_exec: bool = False
    """Wait for the target to load a program, and keep it stopped at its first instruction until released."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was done; the userfaultfd goes with it as a descriptor."""

    tid: int
    """The thread that was stopped."""
    phases_ns: Mapping[str, int]
    """How long each part of its stop took, in order."""


def pack(message: Request | Answer) -> bytes:
    """A message as bytes."""
    return json.dumps(asdict(message)).encode()


def pack_failure(error: PagewatchError) -> bytes:
    """An error as bytes; one of the four kinds that attaching raises."""
    values = {name: getattr(error, name) for name in _ATTRIBUTES[type(error)]}
    return json.dumps({"error": type(error).__name__, "values": values}).encode()


def receive(end: socket.socket, max_descriptors: int) -> tuple[bytes, list[int]]:
    """The next datagram and the descriptors that came with it, which the caller closes; empty at the end.

    ``socket.recv_fds`` ignores its flags (CPython 3.11), so it cannot make descriptors close-on-exec at once.
    """
    descriptors = array.array("i")
    room = socket.CMSG_SPACE(max_descriptors * descriptors.itemsize)
    data, ancillary, _, _ = end.recvmsg(MAX_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    return data, list(descriptors)


def unpack_request(data: bytes) -> Request:
    """The request in a datagram."""
    return Request(**json.loads(data))


def unpack_answer(data: bytes) -> Answer:
    """The answer in a datagram.

    :raises PagewatchError: it holds an error, which is raised here as the surgeon raised it.
    """
    fields: dict[str, Any] = json.loads(data)
    if "error" in fields:
        raise _KINDS[fields["error"]](**fields["values"])
    return Answer(**fields)
