"""What a run prints at its end: a table by status and the problems. It must not decide the exit code."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from flux_cli.outcomes import REJECTED
from flux_cli.progress import STYLES

if TYPE_CHECKING:
    from rich.console import Console

    from flux_cli.outcomes import Outcome, Summary

_MOST_PROBLEMS: Final = 10


def print_report(console: Console, summary: Summary, workflow: str, source: str) -> None:
    """The table, then up to ten problems, then what can be done about what is not at its end."""
    table = Table(title=f"{workflow}: {source}", title_justify="left", show_edge=False, pad_edge=False)
    table.add_column("status")
    for name in ("instances", "started now", "retries", "median s", "longest s"):
        table.add_column(name, justify="right")
    for status, some in summary.by_status.items():
        seconds = [outcome.seconds for outcome in some]
        table.add_row(
            Text(status, STYLES.get(status, "")),
            str(len(some)),
            str(sum(outcome.created for outcome in some)),
            str(sum(outcome.retries for outcome in some)),
            f"{median(seconds):.3f}",
            f"{max(seconds):.3f}",
        )
    if summary.outcomes:
        console.print(table)
    _print_problems(console, [outcome for outcome in summary.outcomes if not outcome.good])
    _say(console, f"{len(summary.outcomes)} lines in {summary.seconds:.1f} s")
    for hint in _hints(summary):
        _say(console, hint)


def _print_problems(console: Console, bad: list[Outcome]) -> None:
    for outcome in sorted(bad, key=lambda one: one.number)[:_MOST_PROBLEMS]:
        line = Text(f"line {outcome.number} ")
        line.append(outcome.status, STYLES.get(outcome.status, ""))
        line.append(f" {outcome.id}" if outcome.id else "")
        line.append(f" at {outcome.step}" if outcome.step else "")
        line.append(f": {_told(outcome)}" if outcome.error else "")
        console.print(line, soft_wrap=True)
    if len(bad) > _MOST_PROBLEMS:
        _say(console, f"and {len(bad) - _MOST_PROBLEMS} more; --json lists them all")


def _told(outcome: Outcome) -> str:
    """A rejection's message says all; a handler's often needs the type beside it (KeyError: 'name')."""
    return f"{outcome.error}" if outcome.status == REJECTED else f"{outcome.error_type}: {outcome.error}"


def _hints(summary: Summary) -> list[str]:
    by_status = summary.by_status
    hints = []
    waiting = sorted({name for one in by_status.get("suspended", []) for name in one.waiting_for})
    if waiting:
        hints.append(
            f"Suspended instances wait for the signal {' or '.join(waiting)}: engine.signal(workflow, id, name)."
        )
    elif "suspended" in by_status:
        hints.append("Suspended instances go on at their time: run the same command again then, with the same ids.")
    if by_status.keys() & {"running", "rolling_back", "pending"}:
        hints.append(
            "Running instances belong to another invocation, or to one that died and whose lease has not ended: "
            "run the same command again to go on with them."
        )
    if "stuck" in by_status:
        hints.append("A stuck instance needs a decision: engine.complete_step, engine.skip_step or engine.retry_step.")
    return hints


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
