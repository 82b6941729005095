"""`flux show`: one instance, whole, once or until it comes to rest."""

from __future__ import annotations

from time import sleep
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.live import Live
from rich.text import Text

from flux_cli import standing
from flux_cli.documents import whole
from flux_cli.failures import told
from flux_cli.happenings import line
from flux_cli.inspection import Inspection
from flux_cli.instances import print_instance, progress
from flux_cli.operation import note_memory
from flux_cli.options import App, Instance
from flux_cli.output import emit, results, written
from flux_cli.targets import targeted

if TYPE_CHECKING:
    from rich.console import Console

    from flux_core.records import Record

_PAUSE: Final = 0.25
"""Seconds between two looks of `--follow`."""


def show(
    words: Instance = None,
    *,
    app: App = None,
    follow: Annotated[
        bool,
        typer.Option(
            "--follow",
            help="Show it live until it ends or rests (waits, is paused, stuck or blocked). It is only watched: the "
            "steps run elsewhere.",
        ),
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All steps, and every value in full.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on one line; with --follow one at every change.")
    ] = False,
) -> None:
    """Show all that is known of one instance, and what can be done about it now.

    The exit code is 0 whatever its status; with --follow it is that of the status in the end.
    """
    target = targeted(app, words, "show", "ID")
    note_memory(target.engine)
    seen = Inspection(target)
    if follow:
        with told("it was only watched, and goes on without you"), written():
            _follow(seen, full=full, as_json=as_json)
        raise typer.Exit(standing.exit_code(seen.state.status))
    with written():
        if as_json:
            emit(whole(seen))
        else:
            print_instance(results(), seen, full=full)


def _follow(seen: Inspection, *, full: bool, as_json: bool) -> None:
    console = results()
    if as_json:
        emit(whole(seen))
        while _moves(seen):
            sleep(_PAUSE)
            if seen.refresh():
                emit(whole(seen))
        return
    if console.is_terminal:
        with Live(progress(seen), console=console, transient=True, auto_refresh=False) as live:
            while _moves(seen):
                sleep(_PAUSE)
                seen.refresh()
                live.update(progress(seen), refresh=True)
    else:
        _tell(console, seen.log[-1:])
        while _moves(seen):
            sleep(_PAUSE)
            _tell(console, seen.refresh())
        console.print()
    print_instance(console, seen, full=full)


def _tell(console: Console, records: list[Record]) -> None:
    for said in filter(None, map(line, records)):
        console.print(Text(said), soft_wrap=True)


def _moves(seen: Inspection) -> bool:
    """Whether somebody works at it, or it is due to be worked at."""
    state = seen.state
    return state.owned or state.status in {"pending", "running"}
