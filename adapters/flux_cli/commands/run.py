"""`flux run`: execute every line of a file as one instance. It must not know how lines are run or shown."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from flux_cli.apps import load_engine, workflow_name
from flux_cli.exits import INTERRUPTED, SOME_FAILED, UNUSABLE, USAGE, CommandFailed
from flux_cli.lines import STANDARD_INPUT, Inputs
from flux_cli.progress import Bar, PlainLines, Watch
from flux_cli.report import print_report
from flux_cli.runner import Runner
from flux_core import CorruptRecord, StorageUnavailable

if TYPE_CHECKING:
    from flux_cli.outcomes import Outcome, Summary
    from flux_core import FluxEngine


def run(
    app: Annotated[
        str,
        typer.Option(
            metavar="MODULE:ATTRIBUTE",
            help="A FluxEngine, or a function that returns one; shop.app:engine, for example.",
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORKFLOW] INPUT.jsonl",
            help="A file of JSON lines, or - for standard input. WORKFLOW if the engine has several.",
            show_default=False,
        ),
    ] = None,
    document: Annotated[
        str | None,
        typer.Option("--input", metavar="JSON", help="One input, as JSON, instead of a file.", show_default=False),
    ] = None,
    id_field: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="The field of each input that is its instance's id: the same file again starts nothing twice. "
            "Without it every line starts a new instance.",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Lines executed at the same time.")
    ] = 8,
    patience: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="How long to stay for instances that go on by themselves: back-offs, sleeps, leases.",
        ),
    ] = 30.0,
    *,
    progress: Annotated[bool, typer.Option(help="Show a progress bar on a terminal.")] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line an instance as it settles, and a summary as the last.")
    ] = False,
) -> None:
    """Execute every line of INPUT.jsonl as one instance of a workflow.

    Exit codes:

    0 all completed, or wait for a signal

    1 some failed, were undone, are stuck or never started

    2 the command line is wrong

    3 the app or its store cannot be used

    130 interrupted
    """
    asked, source = _words(words or [], document)
    inputs = Inputs(source, document)
    engine = load_engine(app)
    workflow = workflow_name(engine, asked, app)
    _check_store(engine)
    out, err = Console(), Console(stderr=True)
    if getattr(engine.storage, "ephemeral", False):
        _note(err, "note: this engine keeps its instances in memory; they are gone when this command ends")
    watch: Watch = Bar(err, inputs.total) if progress and err.is_terminal else PlainLines(err, inputs.total)

    def settled(outcome: Outcome) -> None:
        watch.settled(outcome)
        if as_json:
            _emit(outcome.as_json(workflow))

    runner = Runner(engine, workflow, id_field=id_field, concurrency=concurrency, patience=patience, settled=settled)
    try:
        with watch:
            summary = runner.run(inputs)
    except KeyboardInterrupt:
        _interrupted(runner, err, id_field)
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain at exit when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(SOME_FAILED) from None
    except StorageUnavailable as error:
        raise CommandFailed(
            f"{error} {len(runner.summary.outcomes)} lines are done; then run the same command again", UNUSABLE
        ) from error
    _finish(summary, out, workflow, inputs.name, as_json=as_json)


def _words(words: list[str], document: str | None) -> tuple[str | None, str | None]:
    """The workflow and the source of the inputs, as far as they are given."""
    if document is not None:
        if len(words) > 1:
            raise CommandFailed("--input takes the place of the input file; give one of them", USAGE)
        return (words[0] if words else None), None
    if not words:
        raise CommandFailed(
            f"give a file of JSON lines ({STANDARD_INPUT} for standard input), or one document with --input '{{...}}'",
            USAGE,
        )
    if len(words) > 2:  # noqa: PLR2004 -- the workflow and the file
        raise CommandFailed(f"give at most a workflow and one input file; got {' '.join(words)}", USAGE)
    return (words[0] if len(words) > 1 else None), words[-1]


def _check_store(engine: FluxEngine) -> None:
    """One cheap question, so that a store that cannot be used is told once and before any line."""
    try:
        engine.list(limit=1)
    except (StorageUnavailable, CorruptRecord) as error:
        raise CommandFailed(f"the app's store cannot be used: {error}", UNUSABLE) from error


def _emit(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _finish(summary: Summary, out: Console, workflow: str, source: str, *, as_json: bool) -> NoReturn:
    if as_json:
        _emit(summary.as_json(summary.exit_code))
    else:
        print_report(out, summary, workflow, source)
    raise typer.Exit(summary.exit_code)


def _interrupted(runner: Runner, err: Console, id_field: str | None) -> NoReturn:
    done, left = len(runner.summary.outcomes), runner.unfinished
    again = (
        "run the same command again to go on"
        if id_field is not None
        else "without --id-field the same command would start the lines that are done once more"
    )
    under_way = f"{left} were under way and keep what they have recorded" if left else "none was under way"
    _note(err, f"interrupted: {done} lines are done, {under_way}; {again}")
    raise typer.Exit(INTERRUPTED)


def _note(err: Console, text: str) -> None:
    err.print(text, markup=False, highlight=False, soft_wrap=True)
