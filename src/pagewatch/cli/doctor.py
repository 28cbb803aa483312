"""``pagewatch doctor``: what this kernel and this user can do."""

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pagewatch._version import __version__
from pagewatch.cli import streams
from pagewatch.linux.features import CATALOGUE, Features, Group, features
from pagewatch.linux.probes.support import Support
from pagewatch.vocab.wording import printable


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> int:
    """Tell what this kernel and this user can do, and how to get the rest.

    Everything is tried out, on memory of its own and on child processes of its own; nothing stays behind. Exits
    with 0 if memory of this process can be tracked, else with 1.
    """
    found = features()
    if as_json:
        click.echo(json.dumps(as_plain_values(found), indent=2))
    else:
        console = streams.console()
        with console.capture() as printed:
            print_report(found, console)
        # Tables pad their lines: nobody who copies them wants that.
        click.echo("\n".join(line.rstrip(" ") for line in printed.get().splitlines()), color=True)
    return 0 if found.uffd_wp_async.ok else 1


def verdict(found: Features) -> str:
    """In a few plain sentences, whether and for what pagewatch is of use here."""
    abilities = [(name, support.ok) for name, support in found if CATALOGUE[name].group is Group.ABILITY]
    can = _titles(name for name, ok in abilities if ok)
    cannot = _titles(name for name, ok in abilities if not ok)
    own = found.uffd_wp_async
    sentences = [
        f"You cannot track memory of this process: {own.reason}." if not own.ok else "",
        f"What to do: {own.hint}." if not own.ok and own.hint else "",
        f"You can track {can}." if can else "",
        f"Not shown to work: {cannot}." if cannot and own.ok else "",
    ]
    return " ".join(filter(None, sentences))


def as_plain_values(found: Features) -> dict[str, Any]:
    """Everything that is known, fit for JSON."""
    return {
        "pagewatch": __version__,
        **_host(),
        "can_track": found.uffd_wp_async.ok,
        "verdict": verdict(found),
        "features": {
            name: {
                "ok": support.ok,
                "known": support.error is None,
                "reason": support.reason,
                "hint": support.hint,
                "group": CATALOGUE[name].group.value,
                "title": CATALOGUE[name].title,
            }
            for name, support in found
        },
    }


def print_report(found: Features, console: Console) -> None:
    """The verdict, then a table for each group: the feature, what it is, yes or no, why, and what to do."""
    host = _host()
    console.print(Text("Linux {kernel} on {machine}, user {user_id}, Python {python}".format(**host), style="dim"))
    console.print(Text(verdict(found), style="bold"))
    explained: dict[tuple[str, str], str] = {}
    for group in Group:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, support in found:
            if CATALOGUE[name].group is group:
                first = explained.setdefault((support.reason, support.hint), name)
                table.add_row(_answer(support), name, _explanation(name, support, first))
        console.print()
        console.print(Text(group.value, style="bold underline"))
        console.print(Padding(table, (0, 0, 0, 2)))


def _answer(support: Support) -> Text:
    if support.error is not None:
        return Text("?", style="yellow")
    return Text("yes", style="green") if support.ok else Text("no", style="red")


def _explanation(name: str, support: Support, first: str) -> Text:
    """What the feature is, why it is as it is, and what to do; ``first`` is the one that said so already."""
    text = Text(CATALOGUE[name].title)
    if support.reason:
        text.append(f": {printable(support.reason)}" if first == name else f": as for {first}")
    if support.hint and first == name:
        text.append(f"\n-> {printable(support.hint)}", style="cyan")
    return text


def _titles(names: Iterable[str]) -> str:
    return "; ".join(CATALOGUE[name].title for name in names)


def _host() -> dict[str, Any]:
    system = os.uname()
    return {
        "kernel": system.release,
        "machine": system.machine,
        "user_id": os.geteuid(),
        "python": ".".join(map(str, sys.version_info[:3])),
    }
