"""`flux purge`: delete instances that ended long ago. It must not touch what has not ended."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from flux_cli import completion
from flux_cli.apps import opened
from flux_cli.commands.exporting import instances
from flux_cli.durations import seconds_of
from flux_cli.exits import GOOD, SOME_FAILED, USAGE, CommandFailed
from flux_cli.failures import told
from flux_cli.moments import ago
from flux_cli.operation import note_memory
from flux_cli.options import App
from flux_cli.output import drop_output, emit, note, notes, results, written
from flux_cli.progress import Bar, PlainLines
from flux_cli.styles import painted, printable
from flux_core import CorruptRecord, ImportUnfinished, PurgeUnfinished, Refused, UnknownInstance, UnknownWorkflow
from flux_core.documents import iso
from flux_core.state import CANCELLED, COMPLETED, FAILED, ROLLED_BACK, STATUSES, STUCK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flux_cli.progress import Watch
    from flux_core import FluxEngine, InstanceSummary

_PAGE: Final = 200
_ENDED: Final = (COMPLETED, FAILED, ROLLED_BACK, CANCELLED)
_SHOWN: Final = 10
"""Problems told one by one."""

DELETED: Final = "deleted"
YOUNG: Final = "refused"
UNKNOWN: Final = "unknown workflow"
UNREADABLE: Final = "unreadable"


class _Old:
    """The instances that are meant, as of one moment: those that ended before it stay the same from look to look."""

    def __init__(
        self, engine: FluxEngine, workflow: str | None, statuses: list[str], before: int, limit: int | None
    ) -> None:
        self._engine = engine
        self._workflow = workflow
        self._statuses = statuses
        self._before = before
        self._limit = limit

    def __iter__(self) -> Iterator[InstanceSummary]:
        """Page by page, the newest first."""
        cursor, found = None, 0
        while True:
            page = self._engine.list(self._workflow, self._statuses, _PAGE, cursor)
            for item in page.items:
                if item.updated_at <= self._before:
                    if found == self._limit:
                        return
                    found += 1
                    yield item
            cursor = page.cursor
            if cursor is None:
                return


class _Gone:
    """What became of one instance."""

    def __init__(self, item: InstanceSummary, status: str, why: str | None = None) -> None:
        self.item = item
        self.status = status
        self.why = why

    def as_json(self) -> dict[str, object]:
        """One line of `--json`. Scripts read it: fields may be added, none renamed."""
        item = self.item
        return {
            "workflow": item.workflow,
            "id": item.id,
            "status": item.status,
            "ended_at": iso(item.updated_at),
            "outcome": self.status,
            "why": self.why,
        }


def purge(
    workflow: Annotated[
        str | None,
        typer.Argument(
            metavar="[WORKFLOW]",
            help="Only this workflow's instances.",
            autocompletion=completion.workflow_names,
            show_default=False,
        ),
    ] = None,
    *,
    older_than: Annotated[
        str, typer.Option(metavar="DURATION", help="Only those that ended so long ago: 30d, 12h, 90m.")
    ],
    app: App = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS",
            help="Only those of this status; may be given several times.  [default: all that have ended]",
            autocompletion=completion.statuses,
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many.", show_default=False)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List them, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --status stuck: delete stuck ones, too.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line an instance, and a summary as the last.")
    ] = False,
) -> None:
    """Delete instances that ended long ago: their log, signals and data, for good.

    It shows what it will delete and asks. What has not ended is never touched.

    Exit codes:

    0 done, or nothing to do

    1 some could not be deleted

    2 the command line is wrong

    3 the app or its store cannot be used
    """
    statuses = _statuses(status, force=force)
    age = seconds_of("--older-than", older_than)
    engine, spec = opened(app)
    note_memory(engine)
    if workflow is not None and workflow not in engine.workflows:
        known = ", ".join(sorted(engine.workflows)) or "none"
        raise CommandFailed(f"the engine of {spec!r} has no workflow {workflow!r}; it has {known}", USAGE)
    if not (yes or dry_run) and not sys.stdin.isatty():
        raise CommandFailed(
            "this deletes for good, and nobody can be asked here; add --yes, or --dry-run to look", USAGE
        )
    now = engine.clock.now()
    old = _Old(engine, workflow, statuses, now - round(age * 1000), limit)
    try:
        with told("what was deleted is gone, the rest is untouched"):
            if dry_run:
                _list(old, now, as_json=as_json)
                raise typer.Exit(GOOD)
            total = None if yes else _agreed(old, now)
            if total == 0:
                raise typer.Exit(GOOD)
            _delete(engine, old, total, force=force, as_json=as_json)
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        raise typer.Exit(SOME_FAILED) from None


def _statuses(given: list[str] | None, *, force: bool) -> list[str]:
    wanted = list(given or _ENDED)
    for one in wanted:
        if one not in STATUSES:
            raise CommandFailed(f"there is no status {one!r}; the statuses are {', '.join(STATUSES)}", USAGE)
        if one == STUCK and not force:
            raise CommandFailed("a stuck instance has not ended; add --force if it may be given up", USAGE)
        if one not in {*_ENDED, STUCK}:
            raise CommandFailed(
                f"purge deletes what has ended ({', '.join(_ENDED)}), and {one} instances have not; cancel them first",
                USAGE,
            )
    if force and STUCK not in wanted:
        raise CommandFailed("--force is for stuck instances; say so with --status stuck", USAGE)
    return wanted


def _list(old: _Old, now: int, *, as_json: bool) -> None:
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="dim")
    table.add_column("workflow", overflow="fold")
    table.add_column("id", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    count = 0
    for item in old:
        count += 1
        if as_json:
            emit(_Gone(item, "would be deleted").as_json())
        else:
            table.add_row(item.workflow, item.id, painted(item.status), ago(item.updated_at, now))
    if not as_json:
        with written():
            out = results()
            if count:
                out.print(table)
            out.print(f"{instances(count)} would be deleted", markup=False)


def _agreed(old: _Old, now: int) -> int:
    """Show what is meant, by workflow and status, and ask; how many may be deleted."""
    groups: dict[tuple[str, str], list[int]] = {}
    for item in old:
        groups.setdefault((item.workflow, item.status), []).append(item.updated_at)
    err = notes()
    if not groups:
        note(err, "there is nothing so old")
        return 0
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="dim")
    table.add_column("workflow", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("instances", justify="right", no_wrap=True)
    for name in ("first ended", "last ended"):
        table.add_column(name, no_wrap=True)
    for (workflow, status), ends in sorted(groups.items()):
        table.add_row(workflow, painted(status), str(len(ends)), ago(min(ends), now), ago(max(ends), now))
    err.print(table)
    total = sum(map(len, groups.values()))
    question = f"Delete {'this instance' if total == 1 else f'these {instances(total)}'} for good? [y/N] "
    err.print(question, end="", markup=False, highlight=False)
    if sys.stdin.readline().strip().lower() in {"y", "yes"}:
        return total
    note(err, "nothing was deleted")
    return 0


def _delete(engine: FluxEngine, old: _Old, total: int | None, *, force: bool, as_json: bool) -> None:
    err = notes()
    watch: Watch = Bar(err, total) if err.is_terminal else PlainLines(err, total)
    counts: Counter[str] = Counter()
    left: list[_Gone] = []
    with watch:
        for item in old:
            gone = _deleted(engine, item, force=force)
            if gone is None:
                continue
            counts[gone.status] += 1
            if gone.status != DELETED and len(left) < _SHOWN:
                left.append(gone)
            watch.settled(gone)
            if as_json:
                emit(gone.as_json())
    code = SOME_FAILED if counts[UNKNOWN] or counts[UNREADABLE] else GOOD
    if as_json:
        emit({"summary": True, "by_outcome": dict(counts), "exit_code": code})
    else:
        with written():
            out = results()
            for gone in left:
                text = f"left: {gone.item.workflow}/{gone.item.id}: {gone.why}"
                out.print(printable(text), markup=False, soft_wrap=True)
            rest = counts.total() - counts[DELETED]
            more = f" (the first {_SHOWN} of them above)" if rest > _SHOWN else ""
            out.print(
                f"{instances(counts[DELETED])} deleted" + (f", {rest} left{more}" if rest else ""),
                markup=False,
                soft_wrap=True,
            )
    raise typer.Exit(code)


def _deleted(engine: FluxEngine, item: InstanceSummary, *, force: bool) -> _Gone | None:
    """Delete one; None if somebody else has done it."""
    try:
        engine.delete(item.workflow, item.id, force=force)
    except PurgeUnfinished as error:
        return _Gone(item, YOUNG, str(error))
    except UnknownInstance:
        return None
    except Refused as error:  # opened again, or its last invocation may still be running
        return _Gone(item, YOUNG, str(error))
    except UnknownWorkflow as error:
        return _Gone(item, UNKNOWN, str(error))
    except (CorruptRecord, ImportUnfinished) as error:
        return _Gone(item, UNREADABLE, str(error))
    return _Gone(item, DELETED)
