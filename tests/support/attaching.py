"""``python attaching.py PID [TIMES]``: attaches that often and prints ``attached``, or the error as one line."""

import sys

from pagewatch.linux.remote.attach import attach
from pagewatch.vocab.errors import PagewatchError


def main(pid: int, times: int) -> None:
    _say("started")
    try:
        for _ in range(times):
            with attach(pid):
                pass
        _say("attached")
    except PagewatchError as error:
        _say(f"{type(error).__name__}: {error}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
