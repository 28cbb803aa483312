"""An exception in the midst of a call, at an exact place: what Ctrl-C does by chance."""

import sys
from collections.abc import Callable, Collection
from types import FrameType, ModuleType
from typing import Any


class Interrupted(BaseException):
    """Like KeyboardInterrupt: what handles errors does not handle it."""


def interrupted(call: Callable[[], object], *, step: int, inside: Collection[ModuleType]) -> bool:
    """Whether a call was interrupted before its ``step``-th bytecode instruction (from 1 on) inside these modules.

    False means that it has fewer, and ended as it always does.
    """
    files = {module.__file__ for module in inside}
    taken = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal taken
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            taken += 1
            if taken == step:
                raise Interrupted
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except Interrupted:
        return True
    finally:
        sys.settrace(before)
    return False
