"""`flux check`: whether the app's definitions can continue the instances there are. It must not change anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from flux_cli.apps import load_store, opened
from flux_cli.exits import GOOD, SOME_FAILED, UNUSABLE, CommandFailed
from flux_cli.failures import told
from flux_cli.lines import STANDARD_INPUT, Inputs
from flux_cli.operation import note_memory
from flux_cli.options import App
from flux_cli.output import drop_output, emit, results, written
from flux_cli.styles import printable
from flux_core import (
    CallerError,
    CorruptRecord,
    FluxEngine,
    ImportUnfinished,
    InstanceRef,
    MemoryStorage,
    PurgeUnfinished,
)
from flux_core.state import FAILED, ROLLED_BACK, STATUSES, TERMINAL
from flux_core.transfer import import_instance, read_exported

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_cli.lines import Line
    from flux_core import WorkflowStorage

_PAGE: Final = 200
_EXAMPLES: Final = 3
_LIVE: Final = tuple(status for status in STATUSES if status not in TERMINAL)
_RETRIABLE: Final = (FAILED, ROLLED_BACK)


class Verdict(NamedTuple):
    """What the definition can do with one instance."""

    ref: InstanceRef | None
    """None for a line of a file that cannot be read."""
    name: str
    """Its id, or the line."""
    status: str | None
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def possible(self) -> bool:
        """Whether it can go on."""
        return not self.problems

    def as_json(self) -> dict[str, object]:
        """One line of `--json`. Scripts read it: fields may be added, none renamed."""
        return {
            "workflow": self.ref and self.ref.workflow,
            "id": self.ref and self.ref.id,
            "status": self.status,
            "possible": self.possible,
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


def check(
    *,
    app: App = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|MODULE:ATTRIBUTE",
            help="Whose instances: a file that flux export wrote (- for standard input), or another engine or store.  "
            "[default: the app's own]",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that have failed, too: they could be retried.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line an instance, and a summary as the last.")
    ] = False,
) -> None:
    """Say for each instance that has not ended whether the app's definitions can continue it; before you deploy.

    Where they cannot, it says why, and what to write.

    Exit codes:

    0 all can go on

    1 some cannot

    2 the command line is wrong

    3 the app, its store or the other one cannot be used
    """
    engine, spec = opened(app)
    if not engine.workflows:
        raise CommandFailed(f"the engine of {spec!r} knows no workflow; pass it FluxEngine(workflows=[...])", UNUSABLE)
    statuses = (*_LIVE, *_RETRIABLE) if everything else _LIVE
    groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    total = cannot = 0
    try:
        with told("nothing was changed"):
            for verdict in _verdicts(engine, against, statuses):
                total += 1
                cannot += not verdict.possible
                if as_json:
                    emit(verdict.as_json())
                workflow = verdict.ref.workflow if verdict.ref else ""
                groups.setdefault((workflow, verdict.problems, verdict.notes), []).append(verdict.name)
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        raise typer.Exit(SOME_FAILED) from None
    code = SOME_FAILED if cannot else GOOD
    if as_json:
        emit({"summary": True, "instances": total, "can": total - cannot, "cannot": cannot, "exit_code": code})
    else:
        with written():
            _report(groups, total, cannot)
    raise typer.Exit(code)


def _verdicts(engine: FluxEngine, against: str | None, statuses: tuple[str, ...]) -> Iterator[Verdict]:
    if against is None:
        note_memory(engine)
        yield from _of_store(engine, engine.storage, engine.tenant, statuses)
    elif against == STANDARD_INPUT or Path(against).is_file() or ":" not in against:
        for line in Inputs(against, None):
            verdict = _of_line(engine, line, statuses)
            if verdict is not None:
                yield verdict
    else:
        storage, tenant = load_store(against, "--against")
        yield from _of_store(engine, storage, tenant or engine.tenant, statuses)


def _of_store(
    engine: FluxEngine, storage: WorkflowStorage, tenant: str, statuses: tuple[str, ...]
) -> Iterator[Verdict]:
    judge = _judge(engine, storage, tenant)
    cursor = None
    while True:
        page = judge.list(status=statuses, limit=_PAGE, cursor=cursor)
        for item in page.items:
            yield _verdict(judge, InstanceRef(item.tenant, item.workflow, item.id), item.status)
        cursor = page.cursor
        if cursor is None:
            return


def _of_line(engine: FluxEngine, line: Line, statuses: tuple[str, ...]) -> Verdict | None:
    """One exported instance; None if it has ended."""
    name = f"line {line.number}"
    if line.problem is not None:
        return Verdict(None, name, None, (f"it is {line.problem}",))
    try:
        exported = read_exported(line.value)
    except (CallerError, CorruptRecord) as error:
        return Verdict(None, name, None, (str(error),))
    if exported.state.status not in statuses:
        return None
    storage = MemoryStorage()  # of its own, so that a file of any length fits
    import_instance(storage, exported)
    return _verdict(_judge(engine, storage, exported.ref.tenant), exported.ref, exported.state.status)


def _judge(engine: FluxEngine, storage: WorkflowStorage, tenant: str) -> FluxEngine:
    """The app's definitions over that store."""
    return FluxEngine(storage, workflows=engine.workflows.values(), tenant=tenant, clock=engine.clock)


def _verdict(judge: FluxEngine, ref: InstanceRef, status: str) -> Verdict:
    if ref.workflow not in judge.workflows:
        known = ", ".join(sorted(judge.workflows))
        gone = f"the app has no workflow {ref.workflow!r} any more (it has {known}): keep it until no instance is left"
        return Verdict(ref, ref.id, status, (gone,))
    try:
        found = judge.check(ref.workflow, ref.id)
    except (CorruptRecord, ImportUnfinished, PurgeUnfinished) as error:
        return Verdict(ref, ref.id, status, (str(error),))
    return Verdict(ref, ref.id, status, tuple(found.problems), tuple(found.notes))


def _report(groups: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]], total: int, cannot: int) -> None:
    out = results()
    if not total:
        out.print("there is no instance that has not ended", markup=False)
        return
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="dim")
    table.add_column("workflow", overflow="fold")
    table.add_column("instances", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("why, and what to write", overflow="fold", ratio=3)
    table.add_column("for example", overflow="fold", ratio=1)
    # What stops a deployment comes first, then by how many it concerns.
    for (workflow, problems, notes_), names in sorted(
        groups.items(), key=lambda group: (not group[0][1], -len(group[1]), group[0])
    ):
        verdict = Text("cannot", "red") if problems else Text("can go on", "green")
        said = Text(printable("\n".join(problems)))
        said.append(printable("\n".join(notes_)), style="dim")
        more = ", ..." if len(names) > _EXAMPLES else ""
        table.add_row(workflow, str(len(names)), verdict, said, ", ".join(names[:_EXAMPLES]) + more)
    out.print(table)
    whole = f"{total} instance{'' if total == 1 else 's'}"
    out.print(f"{cannot} of {whole} cannot go on" if cannot else f"{whole} can go on", markup=False)
