"""One instance on a screen: sections of text and tables, at any width. It must not change anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flux_cli import standing
from flux_cli.failures import VERBS
from flux_cli.moments import ago, seconds, stamp
from flux_cli.remedies import ways
from flux_cli.styles import painted, printable
from flux_core import state as s
from flux_core.machine import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, RenderableType

    from flux_cli.inspection import Inspection, Letter
    from flux_core import AuditEntry, StepExecution

_MOST_STEPS: Final = 24
"""Steps shown without `--full`."""
_AROUND: Final = 8
"""Steps shown on either side of where the instance stands, and of those that wait elsewhere, if there are more."""
_MOST_LINES: Final = 12
"""Lines of data and input shown without `--full`."""
_LONGEST: Final = 300
"""Characters of an output or payload shown without `--full`."""


def print_instance(console: Console, seen: Inspection, *, full: bool = False) -> None:
    """Everything about the instance that an operator needs, and what can be done."""
    state = seen.state
    console.print(progress(seen, full=full))
    if state.input is not None:
        console.print(_section("input", _document(seen.input, full=full)))
    if state.data:
        console.print(_section("data", _document(seen.data, full=full)))
    letters = seen.letters()
    if letters:
        console.print(_section("signals that no step has taken", _mail(letters, seen, full=full)))
    audit = seen.audit()
    if audit:
        console.print(_section("done by hand", _audit(audit)))
    found, hindrance = ways(seen)
    if found or hindrance:
        console.print(_section("what you can do now"))
    if hindrance:
        console.print(Text(f"  ({hindrance})", "yellow"))
    for remedy in found:
        console.print(Text(f"  {remedy.does}:"))
        print_command(console, remedy.command)


def print_command(console: Console, command: str) -> None:
    """A command on a line of its own, never broken, so that it can be copied."""
    console.print(Text(f"    {command}", "cyan"), soft_wrap=True)


def progress(seen: Inspection, *, full: bool = False) -> Group:
    """How it stands, and its steps."""
    return Group(*head(seen), _section("steps", steps(seen, full=full)))


def head(seen: Inspection) -> Iterator[RenderableType]:
    """Who it is, how it stands, and why."""
    state = seen.state
    yield Text.assemble((f"{state.name} {state.id}", "bold"))
    yield Text.assemble(painted(state.status), f"{standing.since(state, seen.since, seen.now)}")
    for reason in standing.reasons(state, seen.now, seen.audit()):
        yield Text(reason)
    yield Text(
        f"created {stamp(state.created_at)} UTC ({ago(state.created_at, seen.now)}), version {state.version or '-'}, "
        f"tenant {state.tenant}, {state.seq + 1} records",
        "dim",
    )


def steps(seen: Inspection, *, full: bool = False) -> Table:
    """The steps, with what they brought. Long stretches in the middle are counted, not shown."""
    table = _table()
    table.add_column("step", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("attempts", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("output or error", overflow="fold")
    left_out = 0
    entries = seen.steps()
    path, count = current(seen.state), len(entries)
    at = next((index for index, step in enumerate(entries) if step.path == path), count)
    waiting = 0
    for index, step in enumerate(entries):
        near = abs(index - at) <= _AROUND or index in {0, count - 1}
        if not full and len(entries) > _MOST_STEPS and not near:
            waiting += step.status == s.SUSPENDED
            if not _of_interest(step) or (step.status == s.SUSPENDED and waiting > _AROUND):
                left_out += 1
                continue
        _leave_out(table, left_out)
        left_out = 0
        attempts = f"{step.attempt}, undo {step.undo_attempt}" if step.undo_attempt else str(step.attempt or "")
        took = "" if step.run_ms is None else seconds(step.run_ms)
        table.add_row(
            step.path, painted(standing.shown(step, seen.state)), attempts, took, _brought(step, seen, full=full)
        )
    _leave_out(table, left_out)
    return table


def _leave_out(table: Table, count: int) -> None:
    if count:
        table.add_row(Text(f"... {count} more", "dim"), "", "", "", Text("--full shows them", "dim"))


def _of_interest(step: StepExecution) -> bool:
    return step.status in {s.FAILED, s.RUNNING, s.SUSPENDED, s.COMPENSATING, s.COMPENSATION_FAILED}


def _brought(step: StepExecution, seen: Inspection, *, full: bool) -> Text:
    if step.waiting_for and step.status == s.SUSPENDED:
        return Text(f"waits for {' or '.join(step.waiting_for)}")
    if step.child and step.status == s.SUSPENDED:
        return Text("child {workflow} {id}".format(**standing.child_of(step)))
    if step.error and step.status != s.COMPLETED:
        return Text(printable(step.error), "red")
    if step.output is None:
        return Text("")
    return _line(seen.shown(step.output), full=full)


def _line(value: object, *, full: bool) -> Text:
    """JSON on one line, cut where the line ends unless all of it is wanted."""
    text = json.dumps(value, ensure_ascii=False)
    if full:
        return Text(printable(text), overflow="fold")
    return Text(
        printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."), no_wrap=True, overflow="ellipsis"
    )


def _document(value: object, *, full: bool) -> Text:
    lines = json.dumps(value, ensure_ascii=False, indent=2).splitlines()
    if len(lines) > 1 and len(short := json.dumps(value, ensure_ascii=False)) <= 72:  # noqa: PLR2004 -- fits 80 columns
        lines = [short]
    left = 0 if full else max(0, len(lines) - _MOST_LINES)
    kept = lines[: len(lines) - left]
    text = Text("\n".join(printable(line if full else _cut(line)) for line in kept), overflow="fold")
    if left:
        text.append(f"\n... {left} more lines; --full shows them", "dim")
    return text


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _mail(letters: list[Letter], seen: Inspection, *, full: bool) -> Table:
    table = _table()
    table.add_column("signal", overflow="fold")
    table.add_column("sent", no_wrap=True)
    table.add_column("payload", overflow="fold")
    for mail, payload in letters:
        table.add_row(mail.name, ago(mail.at, seen.now), _line(seen.shown(payload), full=full))
    return table


def _audit(entries: Sequence[AuditEntry]) -> Table:
    table = _table()
    table.add_column("when (UTC)", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("who", overflow="fold")
    table.add_column("why", overflow="fold")
    for entry in entries:
        what = VERBS.get(entry.verb, entry.verb)
        what = f"{what} {entry.step}" if entry.step else what
        table.add_row(stamp(entry.at), what, *(Text(printable(one or "")) for one in (entry.who, entry.why)))
    return table


def _section(title: str, *parts: RenderableType) -> Group:
    return Group("", Text(title, "bold"), *(Padding(part, (0, 0, 0, 2), expand=False) for part in parts))


def _table() -> Table:
    return Table(show_edge=False, pad_edge=False, box=None, header_style="dim")
