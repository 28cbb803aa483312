"""A tracker to be killed: attaches to a process, arms all of it and collects as fast as it can."""

import sys
import time

import pagewatch


def main() -> None:
    """Says "started" once it can be killed; goes on for a minute at most."""
    sys.stdout.write("started\n")
    sys.stdout.flush()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with pagewatch.Process(int(sys.argv[1])) as process, process.attach(), pagewatch.track(process) as tracker:
            for _ in range(20):
                tracker.collect()


if __name__ == "__main__":
    main()
