"""Figures: what a benchmark prints, with the limit it is held to."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    """What it may be at most (or at least, if ``at_least``); None where nothing is promised."""
    at_least: bool = False
    floor: str = ""
    """What the number was measured against, in the same run."""

    @property
    def ok(self) -> bool:
        """Whether the limit is kept."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"   {'>=' if self.at_least else '<='} {self.limit:g}"
        mark = "" if self.limit is None else ("  ok" if self.ok else "  MISSED")
        floor = f"   [{self.floor}]" if self.floor else ""
        return f"{self.name:<58} {self.value:>12.4g} {self.unit:<6}{limit}{mark}{floor}"


def ratio_of(ours_ns: Sequence[float], floor_ns: Sequence[float]) -> float:
    """Median over median: rounds of both were measured in turn, so that drift hits them alike."""
    return median(ours_ns) / median(floor_ns)


def write_json(figures: Sequence[Figure], path: Path) -> None:
    """All figures with the machine they come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"kernel": platform.release(), "machine": platform.machine(), "python": platform.python_version()}
    rows = [{**asdict(figure), "ok": figure.ok} for figure in figures]
    path.write_text(json.dumps({"machine": machine, "figures": rows}, indent=1) + "\n")
