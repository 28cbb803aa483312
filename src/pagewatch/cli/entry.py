"""Where the command begins: so little that Ctrl-C while all else is being loaded ends it cleanly, too."""

import sys


def main() -> None:
    """The entry point of the script."""
    try:
        from pagewatch.cli import main as command  # noqa: PLC0415 - what takes its time
    except KeyboardInterrupt:
        sys.exit("pagewatch: interrupted")
    command.main()
