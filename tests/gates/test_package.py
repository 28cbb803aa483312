"""The package as its users import it: names, and what they cost."""

import ast
import subprocess
import sys

import pytest

import pagewatch
from support.tree import PACKAGE, modules, parsed

HEAVY = ("numpy", "pyarrow", "rich", "bokeh", "matplotlib", "click", "ctypes")


def loaded_by(statement):
    """Modules in sys.modules after a statement in a fresh interpreter."""
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_public_name_is_listed_once_and_has_a_home():
    assert sorted(pagewatch.__all__) == sorted(pagewatch._HOME_OF)
    assert len(pagewatch.__all__) == len(set(pagewatch.__all__))
    assert sum(map(len, pagewatch._HOMES.values())) == len(pagewatch._HOME_OF)


@pytest.mark.parametrize("name", pagewatch.__all__)
def test_every_public_name_resolves_to_what_it_says(name):
    value = getattr(pagewatch, name)
    assert getattr(value, "__name__", name) == name
    assert name in dir(pagewatch)


def test_helpers_of_the_package_are_not_offered_as_names_of_it():
    offered = {name for name in dir(pagewatch) if not name.startswith("__")}
    assert offered == set(pagewatch.__all__)
    assert "__version__" in dir(pagewatch)


def test_type_checkers_see_the_same_names():
    tree = parsed(PACKAGE / "__init__.py")
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert seen == pagewatch._HOME_OF


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'tracker'"):
        _ = pagewatch.tracker


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import pagewatch") & set(HEAVY)


def test_the_vocabulary_needs_numpy_only():
    loaded = loaded_by("from pagewatch import Regions, Query, Category")
    assert not loaded & {"pyarrow", "rich", "bokeh", "matplotlib", "click"}


def test_tracking_needs_neither_reports_nor_recordings():
    assert not loaded_by("from pagewatch import track, Process") & {"pyarrow", "rich", "bokeh", "matplotlib", "click"}


@pytest.mark.parametrize("room", ["trace", "report"])
def test_recordings_are_readable_where_there_is_no_linux(room):
    """Both rooms load with the kernel's room, and what it is made of, out of reach."""
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in modules(PACKAGE / room)
    ]
    code = f"""
import sys
for name in ("pagewatch.linux", "pagewatch.open", "fcntl"):
    sys.modules[name] = None
import importlib
for name in {names!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


def test_the_version_is_a_version():
    assert all(part.isdigit() for part in pagewatch.__version__.split(".")[:2])
