"""The scripts of this tree as modules; they are not part of the package."""

import importlib
import sys
from types import ModuleType

from support.tree import ROOT


def script(name: str) -> ModuleType:
    """A script, imported as if it were run: what lies beside it is found."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "scripts"))
