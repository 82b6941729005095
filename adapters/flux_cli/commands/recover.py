"""`flux recover`: go on with everything that is due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from flux_cli import standing
from flux_cli.apps import opened
from flux_cli.exits import GOOD, SOME_FAILED, CommandFailed
from flux_cli.failures import told
from flux_cli.moments import ago
from flux_cli.operation import note_memory
from flux_cli.options import App
from flux_cli.output import emit, note, notes, results, written
from flux_cli.styles import painted
from flux_core import InstanceRef
from flux_core.documents import iso

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from flux_core import FluxEngine, FluxResult
    from flux_core.ports import Due

_MOST_REASONS: Final = 10
"""Instances whose reasons are told below the table."""


class _Ticked:
    """One instance that was due, and what became of it."""

    def __init__(
        self, ref: InstanceRef, due: int | None, was: str | None, result: FluxResult | None, left: str
    ) -> None:
        self.ref = ref
        self.due = due
        self.was = was
        self.result = result
        self.left = left
        """Why it was left alone, if there is no result."""

    @property
    def status(self) -> str | None:
        """How it stands now."""
        return self.was if self.result is None else self.result.status

    def as_json(self) -> dict[str, object]:
        """One line of `--json`."""
        error = None if self.result is None else self.result.error
        return {
            "tenant": self.ref.tenant,
            "workflow": self.ref.workflow,
            "id": self.ref.id,
            "due": iso(self.due),
            "was": self.was,
            "status": self.status,
            "error": None if error is None else {"type": error.type, "message": error.message, "step": error.step},
            "left_alone": self.left or None,
        }


def recover(
    *,
    app: App = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Take up at most so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line an instance.")] = False,
) -> None:
    """Go on with every instance that is due: timers, back-offs, hand-overs, and what a dead process left.

    The steps run in this process, one instance after the other. Nothing ticks by itself: run it now and then (cron),
    or engine.recover() in a loop.
    """
    engine, _ = opened(app)
    note_memory(engine)
    with told("what was recorded is kept; run it again"):
        before = [(entry, _status(engine, entry.ref)) for entry in engine.storage.due(engine.clock.now(), limit)]
        try:
            after = engine.recover(limit)
        except SystemExit as left:
            raise CommandFailed(
                "a handler called sys.exit(); let it raise an exception instead, and run flux recover again",
                SOME_FAILED,
            ) from left
        ticked = list(_joined(engine, before, after))
    if as_json:
        for one in ticked:
            emit(one.as_json())
    else:
        with written():
            _tell(results(), ticked, engine.clock.now())
    if len(after) >= limit:
        note(notes(), "there may be more that is due: run it again")
    bad = any(one.result is not None and standing.exit_code(one.result.status) != GOOD for one in ticked)
    raise typer.Exit(SOME_FAILED if bad else GOOD)


def _status(engine: FluxEngine, ref: InstanceRef) -> str | None:
    header = engine.storage.header(ref)
    return None if header is None else header.status


def _joined(engine: FluxEngine, before: list[tuple[Due, str | None]], after: list[FluxResult]) -> Iterator[_Ticked]:
    results_ = {InstanceRef(one.state.tenant, one.workflow, one.id): one for one in after}
    for entry, was in before:
        result = results_.pop(entry.ref, None)
        if result is not None:
            yield _Ticked(entry.ref, entry.due, was, result, "")
        elif entry.ref.workflow not in engine.workflows:
            yield _Ticked(entry.ref, entry.due, was, None, "the app has no such workflow")
        elif was is not None:
            yield _Ticked(entry.ref, entry.due, was, None, "it could not be taken up; flux show tells why")
    for ref, result in results_.items():
        yield _Ticked(ref, None, None, result, "")


def _tell(console: Console, ticked: list[_Ticked], now: int) -> None:
    if not ticked:
        console.print("nothing is due")
        return
    console.print(_table(ticked, now))
    told = [(one, why) for one in ticked if (why := _why(one, now))]
    for one, why in told[:_MOST_REASONS]:
        console.print(Text(f"{one.ref.workflow} {one.ref.id}: {why}"), soft_wrap=True)
    if len(told) > _MOST_REASONS:
        console.print(f"and {len(told) - _MOST_REASONS} more; --json tells of them all")


def _table(ticked: list[_Ticked], now: int) -> Table:
    table = Table(show_edge=False, pad_edge=False, box=None, header_style="dim")
    table.add_column("workflow", overflow="fold")
    table.add_column("id", overflow="fold")
    for name in ("due", "was", "is"):
        table.add_column(name, no_wrap=True)
    for one in ticked:
        due = "" if one.due is None else ago(one.due, now)
        was = "" if one.was is None else painted(one.was)
        is_ = painted(one.result.status) if one.result is not None else Text("left alone", "yellow")
        table.add_row(one.ref.workflow, one.ref.id, due, was, is_)
    return table


def _why(one: _Ticked, now: int) -> str:
    if one.result is None:
        return one.left
    return "; ".join(standing.reasons(one.result.state, now))
