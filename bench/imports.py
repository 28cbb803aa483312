"""What importing and asking for help cost, in fresh interpreters."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from figures import Figure

_ROUNDS = 15


def _seconds(command: list[str]) -> float:
    took = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - started)
    return median(took)


def measure(build: Path) -> list[Figure]:
    """Each less an interpreter that does nothing, except --help, which a user waits for as a whole."""
    del build
    empty = _seconds([sys.executable, "-c", "pass"])
    note = f"an empty interpreter takes {empty:.3f} s"
    pagewatch = Path(sys.executable).with_name("pagewatch")
    return [
        Figure("import pagewatch", _seconds([sys.executable, "-c", "import pagewatch"]) - empty, "s", 0.15, floor=note),
        Figure("pagewatch --help", _seconds([str(pagewatch), "--help"]), "s", 0.3, floor=note),
    ]
