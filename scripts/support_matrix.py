"""Write docs/support_matrix.md from what ``pagewatch doctor --json`` said on real kernels.

The answers lie in docs/support_matrix, one file a kernel, named as its column is to be. To add or renew one, also of
an emulated kernel:

    pagewatch doctor --json > docs/support_matrix/6.18-amd64.json
    python kernels/run.py --kernel 6.1-amd64 -- python3 -m pagewatch doctor --json > docs/support_matrix/6.1-amd64.json
    python scripts/support_matrix.py
"""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from made_page import write_or_check

from pagewatch.linux.features import CATALOGUE, Group

_DOCS = Path(__file__).resolve().parents[1] / "docs"
_ANSWERS = _DOCS / "support_matrix"
_PAGE = _DOCS / "support_matrix.md"

_HEAD = """\
# Which kernel can do what

What `pagewatch doctor` found on real kernels, run as root. Each answer is an effect that was seen, or not: no version
numbers, no error codes. Run it yourself to know about your machine. This page is made by `scripts/support_matrix.py`.
"""

Answers = Mapping[str, Any]
"""The ``features`` of one run of the doctor: name to ok, known, reason, hint."""


def page(kernels: Mapping[str, Answers]) -> str:
    """The whole page; a column for each kernel, in the order given."""
    parts = [_HEAD]
    for group in Group:
        names = [name for name, question in CATALOGUE.items() if question.group is group]
        parts.append("\n".join([f"## {group.value}\n", *_table(names, kernels)]) + "\n")
    return "\n".join([*parts, "## Why not\n", *_reasons(kernels)]) + "\n"


def in_order_of_version(names: Iterable[str]) -> list[str]:
    """Kernel names such as 6.12-amd64, the older ones first."""
    return sorted(names, key=lambda name: ([int(number) for number in re.findall(r"\d+", name.split("-")[0])], name))


def read(directory: Path) -> dict[str, Answers]:
    """The answers of every file in a directory, by kernel."""
    files = {path.stem: path for path in directory.glob("*.json")}
    return {name: json.loads(files[name].read_text())["features"] for name in in_order_of_version(files)}


def _table(names: Sequence[str], kernels: Mapping[str, Answers]) -> list[str]:
    rows = [["", "", *kernels], ["---"] * (2 + len(kernels))]
    rows += [[f"`{name}`", CATALOGUE[name].title, *(_cell(kernels[k].get(name)) for k in kernels)] for name in names]
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(answer: Mapping[str, Any] | None) -> str:
    if answer is None:
        return "not asked"
    if not answer["known"]:
        return "unknown"
    return "yes" if answer["ok"] else "**no**"


def _reasons(kernels: Mapping[str, Answers]) -> list[str]:
    """One line for each reason that something is missing, with the features and the kernels it holds for."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for name in CATALOGUE:
        for kernel, answers in kernels.items():
            answer = answers.get(name)
            if answer is not None and not answer["ok"]:
                where.setdefault((name, answer["reason"], answer["hint"]), []).append(kernel)
    names: dict[tuple[str, str, str], list[str]] = {}
    for (name, reason, hint), found in where.items():
        names.setdefault((", ".join(found), reason, hint), []).append(f"`{name}`")
    return [
        f"* {', '.join(features)} on {found}: {reason}." + (f" *{hint}*" if hint else "")
        for (found, reason, hint), features in names.items()
    ]


if __name__ == "__main__":
    sys.exit(write_or_check(_PAGE, page(read(_ANSWERS)), __doc__))
