"""What every module owes its readers: a size one can read, docstrings, and no error swallowed."""

import ast

import pytest

from support.tree import PACKAGE, ROOT, TESTS, definitions, modules, parsed, short

MAX_LINES = 500
OUR_CODE = [path for top in (PACKAGE, TESTS, ROOT / "bench") for path in modules(top)]
SOURCES = modules(PACKAGE)

MAY_CATCH_EVERYTHING = {
    "src/pagewatch/explore/engine.py:_Worker._run": "an explored thread's error is a finding, kept in the execution",
    "src/pagewatch/linux/probes/support.py:ask": "a broken probe is an answer, kept in ``error``, on which tests fail",
}
"""Where whatever comes is caught and not raised again, and why."""


def outside(room):
    """Modules of the package that are not in a room."""
    return [path for path in SOURCES if not path.is_relative_to(room)]


@pytest.mark.parametrize("path", OUR_CODE, ids=short)
def test_no_module_is_longer_than_500_lines(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_everything_public_has_a_docstring(path):
    bare = [
        name
        for name, node in definitions(path)
        if not any(part.startswith("_") for part in name.split(".")) and not ast.get_docstring(node)
    ]
    assert not bare
    assert ast.get_docstring(parsed(path))


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_docstrings_say_something(path):
    said = [ast.get_docstring(node) for _, node in [("", parsed(path)), *definitions(path)]]
    assert not [text for text in said if text is not None and not any(map(str.isalpha, text))]


@pytest.mark.parametrize("path", SOURCES, ids=short)
def test_nothing_is_caught_without_a_name_and_dropped(path):
    for name, node in [("<module>", parsed(path)), *definitions(path)]:
        for handler in handlers(node):
            if catches_everything(handler) and not raises_again(handler):
                assert f"{short(path)}:{name}" in MAY_CATCH_EVERYTHING, f"line {handler.lineno}: name the errors"


def handlers(node):
    """The handlers of a definition, without those of definitions inside of it; of a module, those outside of all."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.ExceptHandler):
            yield child
        yield from handlers(child)


def catches_everything(handler):
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def raises_again(handler):
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and (last.exc is None or last.cause is not None)


def test_what_may_catch_everything_still_does():
    catching = {
        f"{short(path)}:{name}"
        for path in SOURCES
        for name, node in definitions(path)
        if any(catches_everything(handler) and not raises_again(handler) for handler in handlers(node))
    }
    assert MAY_CATCH_EVERYTHING.keys() <= catching


@pytest.mark.parametrize("path", outside(PACKAGE / "linux"), ids=short)
def test_system_calls_are_made_in_one_room_only(path):
    imported = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & {"ctypes", "fcntl"}


@pytest.mark.parametrize("path", outside(PACKAGE / "linux" / "abi"), ids=short)
def test_the_kernels_structures_stay_in_the_abi(path):
    assert not [name for name, node in definitions(path) if is_structure(node)]


def is_structure(node):
    return isinstance(node, ast.ClassDef) and any("Structure" in ast.unparse(base) for base in node.bases)
