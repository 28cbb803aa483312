"""What passes between tracker and surgeon comes out as it went in."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagewatch.linux.remote.protocol import (
    Answer,
    Request,
    pack,
    pack_failure,
    receive,
    unpack_answer,
    unpack_request,
)
from pagewatch.vocab.errors import CannotAttach, FeatureMissing, NotPermitted, PagewatchError, TargetGone

numbers = st.integers(0, 1 << 62)


@given(st.builds(Request, pid=numbers, timeout_ns=numbers, at_exec=st.booleans()))
def test_request_comes_out_as_it_went_in(request: Request) -> None:
    assert unpack_request(pack(request)) == request


@given(st.builds(Answer, tid=numbers, phases_ns=st.dictionaries(st.text(), numbers)))
def test_answer_comes_out_as_it_went_in_and_in_order(answer: Answer) -> None:
    unpacked = unpack_answer(pack(answer))
    assert unpacked == answer
    assert list(unpacked.phases_ns) == list(answer.phases_ns)


@pytest.mark.parametrize(
    "error",
    [
        CannotAttach(7, "it is traced by process 8 (\udcff\n)", "hint"),
        FeatureMissing("userfaultfd", "none", "hint"),
        NotPermitted("no", "hint"),
        TargetGone(7, "does not exist"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_is_raised_as_it_was(error: PagewatchError) -> None:
    with pytest.raises(type(error)) as caught:
        unpack_answer(pack_failure(error))
    assert str(caught.value) == str(error)
    assert vars(caught.value) == vars(error)


@pytest.mark.parametrize("n_descriptors", [0, 1, 2])
def test_descriptors_arrive_closed_on_exec(n_descriptors: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, Path(os.devnull).open("rb") as file:
        socket.send_fds(ours, [b"message"], [file.fileno()] * n_descriptors)
        data, descriptors = receive(theirs, max_descriptors=2)
        try:
            assert data == b"message"
            assert len(descriptors) == n_descriptors
            assert not any(map(os.get_inheritable, descriptors))
            assert all(os.path.sameopenfile(each, file.fileno()) for each in descriptors)
        finally:
            for each in descriptors:
                os.close(each)


def test_end_of_the_other_side_is_an_empty_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    with theirs:
        assert receive(theirs, max_descriptors=1) == (b"", [])
