"""Run the benchmarks: ``make bench``. Prints each figure with its limit; build/bench.json keeps them."""

import argparse
import importlib
import sys
from pathlib import Path

from figures import Figure, write_json

_BENCHES = ("imports", "model", "collect", "attach", "recorder")


def main() -> int:
    """Exit code 1 if a figure misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *_BENCHES], help="which; default all")
    parser.add_argument("--build", type=Path, default=Path("build"), help="where binaries and bench.json go")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    for name in arguments.names or _BENCHES:
        for figure in importlib.import_module(name).measure(arguments.build):
            print(figure, flush=True)
            figures.append(figure)
    write_json(figures, arguments.build / "bench.json")
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
