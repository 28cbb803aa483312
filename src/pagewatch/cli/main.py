"""The command ``pagewatch``: finds the subcommand, and is the only place that turns errors into exit codes.

A command is a module of this package with a click command called ``command``, and a line in ``COMMANDS``.
Exit codes: 0 for success, 2 for wrong use, 1 for any other failure.
"""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import MappingProxyType

import click

from pagewatch._version import __version__
from pagewatch.cli import streams
from pagewatch.vocab.errors import InvalidArgument, PagewatchError
from pagewatch.vocab.wording import printable

COMMANDS = MappingProxyType(
    {
        "doctor": "Tell what this kernel and this user can do, and how to get the rest.",
        "model": "Try the modelled kernel by hand, or replay a scenario.",
        "record": "Record which pages of a program are written, and when.",
        "report": "Show the recording in DIRECTORY: which pages were written, where and when.",
        "scan": "Ask the kernel once which pages of a process are in what state.",
    }
)
"""Each command and what it does; the modules are imported only when they are used."""


_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Commands(click.Group):
    """A group whose commands are imported when they are called, not to be listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"pagewatch.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pagewatch")
@click.pass_context
def pagewatch(ctx: click.Context) -> None:
    """Tell which pages of memory were written, exactly and cheaply, on Linux."""
    if ctx.invoked_subcommand is None:
        raise click.UsageError("no command given", ctx)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code. Errors are printed to stderr in one or two lines."""
    try:
        result = pagewatch.main(list(arguments), prog_name="pagewatch", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        with suppress(OSError):
            streams.forsake(1)
        return 1
    except (click.ClickException, click.Abort, KeyboardInterrupt, PagewatchError, OSError) as error:
        with suppress(OSError):
            for line in _explain(error, arguments).splitlines():
                click.echo(f"pagewatch: {printable(line)}", err=True)
        try:
            sys.stdout.flush()
        except OSError:
            streams.forsake(1)
        return 2 if isinstance(error, click.UsageError | InvalidArgument) else 1
    return result if isinstance(result, int) else 0


def _explain(error: BaseException, arguments: Sequence[str]) -> str:
    match error:
        case click.UsageError():
            # click's parser does not say whose option lacks its argument.
            named = " ".join(["pagewatch", *(name for name in arguments[:1] if name in COMMANDS)])
            where = error.ctx.command_path if error.ctx else named
            return f"{error.format_message()}\nsee: {where} --help"
        case click.ClickException():
            return error.format_message()
        case click.Abort() | KeyboardInterrupt():
            return "interrupted"
        case OSError() if not isinstance(error, PagewatchError) and error.filename:
            return f"{error.filename}: {error.strerror}"
        case OSError(errno=number) if number in _WRITE_ERRORS and error.strerror == os.strerror(number):
            # Files are named where they are written, and so are system calls.
            return f"the standard output cannot be written: {error.strerror}\nmake room there or send it elsewhere"
    return str(error)


def main() -> None:
    """The entry point of the script."""
    streams.prepare()
    sys.exit(run(sys.argv[1:]))
