"""``pagewatch model``: the modelled kernel by hand, and scenarios replayed step by step."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from pagewatch.model.arch import ARCHES
from pagewatch.model.explain import Story
from pagewatch.scenarios.play import Explored, Played, explore, play
from pagewatch.scenarios.script import Script, Variant, load, shipped_names
from pagewatch.scenarios.session import HELP, Session
from pagewatch.scenarios.world import Broken
from pagewatch.vocab.errors import InvalidArgument

_PROMPT = "model> "


@click.group("model", invoke_without_command=True)
@click.option("--arch", type=click.Choice(sorted(ARCHES)), help="The page-table format.  [default: x86_64]")
@click.option("--json", "as_json", is_flag=True, help="Answer each statement by a line of JSON.")
@click.pass_context
def command(ctx: click.Context, *, arch: str | None, as_json: bool) -> None:
    """Try the modelled kernel by hand, or replay a scenario.

    Without a command, statements are read from standard input, one a line; 'help' lists them. Everything is
    simulated: no memory of this machine is touched.
    """
    if ctx.invoked_subcommand is None:
        _converse(Session(arch=arch or "x86_64"), as_json=as_json)
    elif arch:
        raise click.UsageError("--arch is for statements by hand; a scenario's file says its own", ctx)
    elif as_json:
        raise click.UsageError(f"--json belongs behind '{ctx.invoked_subcommand}'", ctx)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(*, as_json: bool) -> None:
    """List the scenarios that come with pagewatch."""
    scripts = [load(name) for name in shipped_names()]
    if as_json:
        click.echo(json.dumps([{"name": s.name, "title": s.title, "system": s.system} for s in scripts]))
        return
    width = max(len(script.name) for script in scripts)
    for script in scripts:
        click.echo(f"{script.name:<{width}}  {script.title}")


@command.command("run")
@click.argument("script")
@click.option("--variant", help="Only this variant.  [default: all]")
@click.option("--all", "all_traces", is_flag=True, help="Also try every way the CPUs' steps can interleave.")
@click.option("--limit", type=click.IntRange(min=1), default=20_000, show_default=True, help="With --all: at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def run_command(
    ctx: click.Context, *, script: str, variant: str | None, all_traces: bool, limit: int, as_json: bool
) -> None:
    """Replay SCRIPT, a file or the name of a shipped scenario, and tell what happens.

    Fails if a variant does not end as the scenario says.
    """
    scenario = load(script)
    chosen = [v for v in scenario.variants if variant in (None, v.name)]
    if not chosen:
        names = ", ".join(v.name for v in scenario.variants)
        raise InvalidArgument(f"{scenario.name} has no variant {variant!r}; it has {names}")
    results = [(v, play(scenario, v), explore(v, limit=limit) if all_traces else None) for v in chosen]
    if as_json:
        click.echo(json.dumps({"name": scenario.name, "variants": [_as_json(*result) for result in results]}))
    else:
        for line in _as_lines(scenario, results):
            click.echo(line)
    ctx.exit(int(any(bool(played.broken) is not v.breaks for v, played, _ in results)))


def _converse(session: Session, *, as_json: bool) -> None:
    """Read statements until there are no more; at a terminal, errors do not end it."""
    terminal = sys.stdin.isatty()
    if terminal:
        click.echo(
            "A modelled kernel with one process and two CPUs. 'help' lists the statements; 'quit' or Ctrl-D ends."
        )
    while (line := _next_line(prompt=_PROMPT if terminal else "")) is not None:
        if line.strip() == "quit":
            break
        try:
            answer = "\n".join(_told(session, line))
            if as_json:
                click.echo(json.dumps({"statement": line.strip(), "answer": answer}))
            elif answer:
                click.echo(answer)
        except (Broken, InvalidArgument) as error:
            if not terminal:
                raise
            click.echo(f"pagewatch: {error}", err=True)


def _next_line(*, prompt: str) -> str | None:
    if prompt:
        click.echo(prompt, nl=False)
    line = sys.stdin.readline()
    return line or None


def _told(session: Session, line: str) -> Iterator[str]:
    """What a statement says; ``explain PAGES STATEMENT`` also tells what it did to those pages."""
    words = line.split(maxsplit=2)
    if words[:1] == ["help"]:
        yield HELP
        yield "explain PAGES STATEMENT           run a statement, and tell what it does to the pages"
    elif words[:1] == ["explain"] and len(words) == 3:
        pages = session.pages(words[1])
        with session.kernel.explain(session.process, pages.start, pages.end - pages.start) as story:
            answer = session.run(words[2])
        yield from _story_lines(story, "  ")
        if answer:
            yield answer
    elif answer := session.run(line.strip()):
        yield answer


def _story_lines(story: Story, lead: str) -> Iterator[str]:
    for event in story.events:
        yield f"{lead}cpu{event.thread}  {event.label}: {event.what}"


def _as_lines(script: Script, results: list[tuple[Variant, Played, Explored | None]]) -> Iterator[str]:
    yield script.title
    yield ""
    yield script.story
    for variant, played, explored in results:
        yield ""
        yield f"== {variant.name}: {'breaks: ' + played.broken if played.broken else 'holds'}"
        yield from (f"   {line}" for line in played.said)
        yield "   what happened to the pages:"
        yield from _story_lines(played.story, "     ")
        if explored is not None:
            scope = "all" if explored.complete else "the first"
            yield f"   {scope} {explored.traces} interleavings{_bound(variant)}: {explored.broken} break"


def _bound(variant: Variant) -> str:
    """Which interleavings were tried, where not all were."""
    if variant.preemptions is None:
        return ""
    where = f", before {', '.join(f'{stop!r}' for stop in variant.stops)}" if variant.stops else ""
    return f" (preemptions: at most {variant.preemptions}{where})"


def _as_json(variant: Variant, played: Played, explored: Explored | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "variant": variant.name,
        "expected": "breaks" if variant.breaks else "holds",
        "broken": played.broken or None,
        "said": list(played.said),
        "events": [{"cpu": e.thread, "step": e.label, "what": e.what} for e in played.story.events],
    }
    if explored is not None:
        result["interleavings"] = {
            "tried": explored.traces,
            "broken": explored.broken,
            "complete": explored.complete,
            "preemptions": variant.preemptions,
            "stops": list(variant.stops),
        }
    return result
