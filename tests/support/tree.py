"""The source tree, for tests about the code itself."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "pagewatch"
TESTS = ROOT / "tests"


def modules(top: Path) -> list[Path]:
    """Python files under a directory, ascending."""
    return sorted(path for path in top.rglob("*.py") if "__pycache__" not in path.parts)


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(), str(path))


def short(path: Path) -> str:
    """A path as people write it, from the root of the project."""
    return str(path.relative_to(ROOT))


def definitions(path: Path) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Classes, functions and methods of a module with their dotted names; not what is inside of functions."""

    def inside(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef]]:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from inside(node.body, f"{prefix}{node.name}.")

    yield from inside(parsed(path).body, "")
