"""Fresh interpreters that find the package compiled, as an installer leaves it, whatever this shell says."""

import os
import subprocess
from pathlib import Path


def environment(build: Path, command: list[str]) -> dict[str, str]:
    """Variables under which ``command`` finds all that it imports compiled; it runs once for that."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    variables["PYTHONPYCACHEPREFIX"] = str(build / "pycache")
    subprocess.run(command, env=variables, check=True, stdout=subprocess.DEVNULL)
    return variables
