"""What importing and asking for help cost, in fresh interpreters."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from figures import Figure
from fresh import environment

_ROUNDS = 15


def _seconds(build: Path, command: list[str]) -> float:
    variables = environment(build, command)
    took = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - started)
    return median(took)


def measure(build: Path) -> list[Figure]:
    """Each less an interpreter that does nothing, except --help, which a user waits for as a whole."""
    empty = _seconds(build, [sys.executable, "-c", "pass"])
    note = f"an empty interpreter takes {empty:.3f} s"
    pagewatch = Path(sys.executable).with_name("pagewatch")
    importing = _seconds(build, [sys.executable, "-c", "import pagewatch"])
    return [
        Figure("import pagewatch", importing - empty, "s", 0.15, floor=note),
        Figure("pagewatch --help", _seconds(build, [str(pagewatch), "--help"]), "s", 0.3, floor=note),
    ]
