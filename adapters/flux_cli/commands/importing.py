"""`flux import`: exported instances into a store. It must not change an instance that is there."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import typer

from flux_cli.apps import opened
from flux_cli.commands.exporting import instances
from flux_cli.exits import GOOD, SOME_FAILED, UNUSABLE, CommandFailed
from flux_cli.failures import told
from flux_cli.lines import Inputs
from flux_cli.operation import note_memory
from flux_cli.options import App
from flux_cli.output import drop_output, emit, note, notes, results, written
from flux_cli.progress import Bar, PlainLines
from flux_cli.styles import printable
from flux_core import CallerError, Conflict, CorruptRecord, Refused, StorageUnavailable
from flux_core.transfer import COMPLETED, IMPORTED, NEWER, SAME, compare, import_instance, read_exported

if TYPE_CHECKING:
    from flux_cli.lines import Line
    from flux_cli.progress import Watch
    from flux_core import FluxEngine
    from flux_core.transfer import Exported

CONFLICT: Final = "conflict"
DAMAGED: Final = "damaged"
REFUSED: Final = "refused"

_DONE: Final = {
    IMPORTED: "imported",
    COMPLETED: "an interrupted import completed",
    SAME: "there already, unchanged",
    NEWER: "there already, gone on since; left as they are",
    CONFLICT: "in conflict with what is there; left as they are",
    DAMAGED: "damaged; not imported",
    REFUSED: "refused",
}
_WOULD: Final = {IMPORTED: "would be imported", COMPLETED: "an interrupted import would be completed"}


class Landed:
    """What became of one line, or would."""

    def __init__(self, line: int, exported: Exported | None, outcome: str, problem: str | None = None) -> None:
        self.line = line
        # Not the whole of it: a file may hold more than fits into memory.
        self.ref = None if exported is None else exported.ref
        self.instance = None if exported is None else exported.header.status
        self.outcome = outcome
        self.problem = problem

    @property
    def status(self) -> str:
        """As the progress bar wants it."""
        return self.outcome

    def as_json(self, *, dry_run: bool) -> dict[str, object]:
        """One line of `--json`. Scripts read it: fields may be added, none renamed."""
        return {
            "line": self.line,
            "workflow": self.ref and self.ref.workflow,
            "id": self.ref and self.ref.id,
            "status": self.instance,
            "outcome": self.outcome,
            "dry_run": dry_run,
            "problem": self.problem,
        }


def import_file(
    source: Annotated[str, typer.Argument(metavar="FILE", help="What flux export wrote; - for standard input.")],
    *,
    app: App = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and write nothing.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line an instance, and a summary as the last.")
    ] = False,
) -> None:
    """Import instances that flux export wrote. The same file again imports nothing twice.

    An instance keeps its tenant, workflow and id, because its idempotency keys are made from them. One that is there
    already is never changed. Nothing half imported can run: after an interruption run the same command again.

    Exit codes:

    0 all are there

    1 some were damaged, refused, or in conflict with what is there

    2 the command line is wrong

    3 the app or its store cannot be used
    """
    inputs = Inputs(source, None)
    engine, _ = opened(app)
    note_memory(engine)
    err = notes()
    watch: Watch = Bar(err, inputs.total) if err.is_terminal else PlainLines(err, inputs.total)
    landed: list[Landed] = []
    try:
        with told("run the same command again to go on"), watch:
            for line in inputs:
                one = _land(engine, line, dry_run=dry_run)
                landed.append(one)
                watch.settled(one)
                if as_json:
                    emit(one.as_json(dry_run=dry_run))
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        raise typer.Exit(SOME_FAILED) from None
    counts = Counter(one.outcome for one in landed)
    code = SOME_FAILED if counts.keys() & {CONFLICT, DAMAGED, REFUSED} else GOOD
    if as_json:
        emit({"summary": True, "lines": len(landed), "by_outcome": dict(counts), "dry_run": dry_run, "exit_code": code})
    else:
        with written():
            _report(landed, counts, dry_run=dry_run)
    strangers = sorted({one.ref.workflow for one in landed if one.ref} - set(engine.workflows))
    if strangers:
        note(err, f"note: this engine does not know {', '.join(strangers)}: it cannot go on with their instances")
    raise typer.Exit(code)


def _land(engine: FluxEngine, line: Line, *, dry_run: bool) -> Landed:
    """Import one line; what is wrong with it is that line's outcome."""
    exported = None
    if line.problem is not None:
        return Landed(line.number, None, DAMAGED, f"it is {line.problem}")
    try:
        exported = read_exported(line.value)
        if exported.ref.tenant != engine.tenant:
            raise Refused(
                f"it belongs to tenant {exported.ref.tenant!r}, and the engine works for {engine.tenant!r}; an "
                f"instance stays with its tenant, because its idempotency keys are made from it: use an engine of "
                f"that tenant"
            )
        outcome = compare(engine.storage, exported) if dry_run else import_instance(engine.storage, exported)
        return Landed(line.number, exported, outcome)
    except Conflict as error:
        return Landed(line.number, exported, CONFLICT, str(error))
    except CorruptRecord as error:
        return Landed(line.number, exported, DAMAGED, str(error))
    except CallerError as error:
        return Landed(line.number, exported, REFUSED, str(error))
    except StorageUnavailable as error:
        raise CommandFailed(f"{error} It was line {line.number}; then run the same command again", UNUSABLE) from error


def _report(landed: list[Landed], counts: Counter[str], *, dry_run: bool) -> None:
    out = results()
    for one in landed:
        if one.problem is not None:
            out.print(printable(f"line {one.line} {one.outcome}: {one.problem}"), markup=False, soft_wrap=True)
    words = {**_DONE, **_WOULD} if dry_run else _DONE
    for outcome, text in words.items():
        if counts[outcome]:
            out.print(f"{instances(counts[outcome])} {text}", markup=False, soft_wrap=True)
    if not landed:
        out.print("the file holds no instance", markup=False)
