"""``make demo``: record a real, unmodified program and show where and when its memory was written."""

import os
import random
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

_BUILD = Path("build/demo")
_LINES = 1_500_000


def main() -> int:
    """Record coreutils' ``sort`` on shuffled lines; report in the terminal and as an HTML file."""
    pagewatch = Path(sys.executable).with_name("pagewatch")
    sort = shutil.which("sort")
    if sort is None:
        sys.stderr.write("demo: there is no 'sort' on this machine\n")
        return 1
    _BUILD.mkdir(parents=True, exist_ok=True)
    lines = _BUILD / "shuffled.txt"
    numbers = list(range(_LINES))
    random.Random(0).shuffle(numbers)  # noqa: S311 - the same demo every time
    lines.write_text("\n".join(map(str, numbers)) + "\n")
    recording, page = _BUILD / "recording", _BUILD / "report.html"
    program = [sort, "--buffer-size=200M", "--parallel=1", "--output=/dev/null", str(lines)]
    steps = [
        [str(pagewatch), "record", "--force", "--hz", "30", "-o", str(recording), "--", *program],
        [str(pagewatch), "report", str(recording)],
        [str(pagewatch), "report", str(recording), "--force", "--html", str(page)],
    ]
    for step in steps:
        sys.stdout.write(f"$ {' '.join(['pagewatch', *step[1:]])}\n")
        sys.stdout.flush()
        code = subprocess.run(step, check=False).returncode
        if code:
            return _explain(pagewatch, code)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(page.resolve().as_uri())
    sys.stdout.write(f"Open {page} in a browser: zoom, hover, sort.\n")
    return 0


def _explain(pagewatch: Path, code: int) -> int:
    """What this machine lacks, in the doctor's words."""
    sys.stderr.write("The demo could not run here. What this kernel and this user can do:\n")
    subprocess.run([str(pagewatch), "doctor"], check=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
