"""`flux run`: execute every line of a file as one instance. It must not know how lines are run or shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
from rich.console import Console

from flux_cli.apps import opened, workflow_name
from flux_cli.exits import INTERRUPTED, SOME_FAILED, UNUSABLE, USAGE, CommandFailed
from flux_cli.lines import STANDARD_INPUT, Inputs
from flux_cli.operation import note_memory
from flux_cli.options import App
from flux_cli.outcomes import lines_told
from flux_cli.output import drop_output, emit, note, written
from flux_cli.progress import Bar, PlainLines, Watch
from flux_cli.report import print_report
from flux_cli.runner import Runner
from flux_cli.targets import Target, command
from flux_core import CorruptRecord, InstanceRef, StorageUnavailable

if TYPE_CHECKING:
    from flux_cli.outcomes import Outcome
    from flux_core import FluxEngine

_KEPT: Final = (
    "the instances keep what they have recorded: make room, then look at them with flux list, or run the same command "
    "again if it has an --id-field"
)
_SUFFIXES: Final = frozenset({".json", ".jsonl", ".ndjson"})


def run(
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
    app: App = None,
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
    engine, spec = opened(app)
    workflow = workflow_name(engine, asked, spec)
    _check_store(engine)
    out, err = Console(), Console(stderr=True)
    note_memory(engine)
    watch: Watch = Bar(err, inputs.total) if progress and err.is_terminal else PlainLines(err, inputs.total)

    def say(verb: str, id: str | None = None, *rest: str) -> str:
        if id is None:
            return command(spec, verb)
        return Target(engine, spec, InstanceRef(engine.tenant, workflow, id)).command(verb, *rest)

    def settled(outcome: Outcome) -> None:
        watch.settled(outcome)
        if as_json:
            emit(outcome.as_json(workflow))

    runner = Runner(engine, workflow, id_field=id_field, concurrency=concurrency, patience=patience, settled=settled)
    try:
        with watch:
            summary = runner.run(inputs)
    except KeyboardInterrupt:
        _interrupted(runner, err, id_field)
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        raise typer.Exit(SOME_FAILED) from None
    except StorageUnavailable as error:
        raise CommandFailed(f"{error} {_done(runner)}; then run the same command again", UNUSABLE) from error
    if as_json:
        emit(summary.as_json(summary.exit_code))
    else:
        with written(_KEPT):
            print_report(out, summary, workflow, inputs.name, say, same_ids=id_field is not None)
    raise typer.Exit(summary.exit_code)


def _words(words: list[str], document: str | None) -> tuple[str | None, str | None]:
    """The workflow and the source of the inputs, as far as they are given."""
    if document is not None:
        file = next((word for word in words if word == STANDARD_INPUT or Path(word).suffix in _SUFFIXES), None)
        if len(words) > 1 or file is not None:
            raise CommandFailed(
                f"--input and an input file ({file or words[-1]!r}) exclude each other; give one of them", USAGE
            )
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


def _done(runner: Runner) -> str:
    done = len(runner.summary.outcomes)
    return f"{lines_told(done)} {'is' if done == 1 else 'are'} done"


def _interrupted(runner: Runner, err: Console, id_field: str | None) -> NoReturn:
    left = runner.unfinished
    again = (
        "run the same command again to go on"
        if id_field is not None
        else "without --id-field the same command would start the lines that are done once more"
    )
    under_way = (
        f"{left} {'was' if left == 1 else 'were'} under way and keep{'s' if left == 1 else ''} what was recorded"
        if left
        else "none was under way"
    )
    note(err, f"interrupted: {_done(runner)}, {under_way}; {again}")
    raise typer.Exit(INTERRUPTED)
