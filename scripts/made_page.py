"""A page of the documentation that a script makes: written, or looked at whether it is up to date."""

import argparse
from pathlib import Path


def write_or_check(path: Path, text: str, description: str | None) -> int:
    """Write a page, or with ``--check`` see whether it is what would be written; returns the exit status."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the page is out of date")
    if not parser.parse_args().check:
        path.write_text(text)
        return 0
    return int(path.read_text() != text)
