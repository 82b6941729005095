"""`flux list`: the instances of a store, a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from flux_cli import completion
from flux_cli.apps import opened
from flux_cli.exits import USAGE, CommandFailed
from flux_cli.moments import ago, until
from flux_cli.operation import note_memory
from flux_cli.options import App, Statuses
from flux_cli.output import emit, note, notes, results, written
from flux_cli.styles import painted
from flux_cli.targets import command
from flux_core.documents import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_core import FluxEngine, InstancePage, InstanceSummary

_PAGE: Final = 50
_LARGE_PAGE: Final = 500
"""Instances read at once with `--all`."""


def list_instances(
    workflow: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORKFLOW]",
            help="Only those of this workflow.",
            autocompletion=completion.workflow_names,
            show_default=False,
        ),
    ] = None,
    *,
    app: App = None,
    status: Statuses = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help=f"At most so many ({_PAGE}, if it is not given).")
    ] = None,
    cursor: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Go on where an earlier list ended.", show_default=False)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, however many.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line an instance.")] = False,
) -> None:
    """List instances, the newest first.

    Each is shown as of the last time that somebody took it up or laid it down. `due` is when it may go on by itself.
    """
    if everything and limit is not None:
        raise CommandFailed("--all and --limit exclude each other; give one of them", USAGE)
    engine, spec = opened(app)
    note_memory(engine)
    if workflow is not None:
        _check_workflow(engine, workflow, spec)
    pages = _pages(engine, workflow, status, cursor, None if everything else limit or _PAGE)
    now = engine.clock.now()
    shown: list[InstanceSummary] = []
    rest = None
    for page in pages:
        rest = page.cursor
        for item in page.items:
            if as_json:
                emit(listed(item))
            else:
                shown.append(item)
    if not as_json:
        with written():
            results().print(_table(shown, now) if shown else _none(workflow, status))
    if rest is not None:
        options = [word for one in status or () for word in ("--status", one)]
        options += ["--limit", str(limit)] * (limit is not None) + ["--json"] * as_json
        again = command(spec, "list", [workflow] if workflow else [], [*options, "--cursor", rest])
        note(notes(), f"there are more: --all lists them all, and the next ones come with\n  {again}")


def _pages(
    engine: FluxEngine, workflow: str | None, status: list[str] | None, cursor: str | None, limit: int | None
) -> Iterator[InstancePage]:
    """One page of `limit`, or all there are."""
    while True:
        page = engine.list(workflow, status or None, limit or _LARGE_PAGE, cursor)
        yield page
        cursor = page.cursor
        if cursor is None or limit is not None:
            return


def _check_workflow(engine: FluxEngine, workflow: str, spec: str) -> None:
    """A workflow that the app no longer has may still have instances; one that has none is a slip."""
    if workflow not in engine.workflows and not engine.list(workflow, limit=1).items:
        known = ", ".join(sorted(engine.workflows)) or "none"
        raise CommandFailed(
            f"there is no instance of a workflow {workflow!r}; the engine of {spec!r} has {known}", USAGE
        )


def _table(items: list[InstanceSummary], now: int) -> Table:
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="dim")
    table.add_column("workflow", overflow="fold")
    table.add_column("id", overflow="fold")
    for name in ("status", "age", "updated", "due"):
        table.add_column(name, no_wrap=True)
    for item in items:
        due = "" if item.due is None else until(item.due, now)
        age = ago(item.created_at, now).removesuffix(" ago")
        table.add_row(item.workflow, item.id, painted(item.status), age, ago(item.updated_at, now), due)
    return table


def _none(workflow: str | None, status: list[str] | None) -> str:
    what = f"of {workflow} " if workflow else ""
    which = f"that is {' or '.join(status)}" if status else ""
    return " ".join(f"there is no instance {what}{which}".split())
