"""A surgeon that cannot start, fails or falls silent is reported in words, and nothing of it is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pagewatch.linux.remote.client import Surgeon
from pagewatch.linux.remote.protocol import Request
from pagewatch.linux.remote.rights import has_capability
from pagewatch.vocab.errors import CannotAttach, FeatureMissing
from support.patients import wait_until

_CAP_SYS_RESOURCE = 24

_REQUEST = Request(pid=4321, timeout_ns=1_000_000)


def impostor(directory: Path, script: str) -> str:
    """A program that is run in the interpreter's place."""
    program = directory / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "exit status -9"),
        ("echo Traceback >&2; echo 'OSError: no luck' >&2; exit 1", "OSError: no luck"),
    ],
)
def test_failure_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(sys, "executable", impostor(tmp_path, script))
    with Surgeon() as surgeon, pytest.raises(CannotAttach, match=f"process 4321: the helper process failed: {words}"):
        surgeon.ask(_REQUEST, [])


@pytest.mark.parametrize("executable", ["", "/no/such/python"])
def test_missing_interpreter_is_told_in_words(monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names are all that is compared
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(FeatureMissing, match=r"attach: the interpreter .* cannot be run"):
        Surgeon()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208


def test_surgeon_that_nobody_asks_goes_away() -> None:
    with Surgeon() as surgeon:
        pid = surgeon.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_surgeon_is_out_of_reach_of_the_terminal() -> None:
    with Surgeon() as surgeon:
        assert os.getsid(surgeon.pid) == surgeon.pid != os.getsid(0)


def test_surgeon_is_out_of_reach_of_whoever_kills_trackers_by_name() -> None:
    with Surgeon() as surgeon:
        line = Path(f"/proc/{surgeon.pid}/cmdline")
        # Popen returns a moment before the kernel has put it there.
        wait_until(lambda: line.read_bytes() != b"")
        words = line.read_bytes().split(b"\0")
    assert Path(os.fsdecode(words[0])) == Path(sys.executable).resolve()
    assert not any(b"pagewatch" in word for word in words[1:])


@pytest.mark.skipif(not has_capability(_CAP_SYS_RESOURCE), reason="needs CAP_SYS_RESOURCE (run as root)")
def test_surgeon_alone_is_spared_when_memory_runs_out() -> None:
    own = Path("/proc/self/oom_score_adj").read_text()
    with Surgeon() as surgeon:
        wait_until(lambda: Path(f"/proc/{surgeon.pid}/oom_score_adj").read_text() == "-1000\n")
    assert Path("/proc/self/oom_score_adj").read_text() == own != "-1000\n"


def test_surgeon_imports_nothing_but_the_standard_library(tmp_path: Path) -> None:
    source = Path(__file__).parents[4] / "src"
    code = f"import sys; sys.path.append({str(source)!r}); import pagewatch.linux.remote.surgeon; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.split()
    roots = {name.partition(".")[0] for name in loaded}
    assert roots - set(sys.stdlib_module_names) - {"__main__", "_distutils_hack"} == {"pagewatch"}
    assert "subprocess" not in roots
