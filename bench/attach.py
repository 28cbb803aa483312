"""How long attaching stops a thread of the target, and how long it takes as a whole."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from figures import Figure

from pagewatch.linux.remote.attach import attach

_ROUNDS = 50
_TARGET = "import threading\nprint('ready', flush=True)\nthreading.Event().wait()"


def measure(build: Path) -> list[Figure]:
    """Of a Python process that waits, attached to again and again."""
    del build
    stopped_ns, took_ns = [], []
    with subprocess.Popen([sys.executable, "-c", _TARGET], stdout=subprocess.PIPE) as target:
        assert target.stdout is not None
        target.stdout.readline()
        for _ in range(_ROUNDS):
            started = time.perf_counter_ns()
            with attach(target.pid) as attachment:
                took_ns.append(time.perf_counter_ns() - started)
                stopped_ns.append(attachment.stopped_ns)
        target.kill()
    note = f"median of {_ROUNDS}; longest {max(stopped_ns) / 1e6:.2f} ms"
    return [
        Figure("attach() stops one thread for", median(stopped_ns) / 1e6, "ms", 5, floor=note),
        Figure("attach() as a whole", median(took_ns) / 1e6, "ms", floor="most of it starts a separate process"),
    ]
