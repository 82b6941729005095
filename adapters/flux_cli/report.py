"""What a run prints at its end: a table by status and the problems. It must not decide the exit code."""

from __future__ import annotations

from math import ceil
from statistics import median
from time import time
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from flux_cli.outcomes import REJECTED, lines_told
from flux_cli.styles import STYLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from flux_cli.outcomes import Outcome, Summary

    Say = Callable[..., str]

_MOST_PROBLEMS: Final = 10
_SPARE: Final = 5
"""Seconds that a recommended patience is longer than what is waited for."""
_NEEDS: Final = (
    ("stuck", "A stuck instance needs a decision, and flux show says which there are"),
    ("blocked", "A blocked instance needs its earlier definition, and flux show says what else can be done"),
    ("failed", "What can be done about a failed instance is told by flux show"),
)
_NO_IDS: Final = "the same command would start new ones, because there is no --id-field"


def print_report(console: Console, summary: Summary, workflow: str, source: str, say: Say, *, same_ids: bool) -> None:
    """The table, then up to ten problems, then what can be done about what is not at its end.

    `say(verb, id, *words)` is a command for an instance as one types it, `say("recover")` that for all.
    `same_ids`: whether the same command would meet the same instances, as with --id-field.
    """
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
    _say(console, f"{lines_told(len(summary.outcomes))} in {summary.seconds:.1f} s")
    for hint in _hints(summary, say, same_ids=same_ids):
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
    """A message of ours says all; a handler's often needs the type beside it (KeyError: 'name')."""
    ours = outcome.status == REJECTED or outcome.error_type == SystemExit.__name__
    return f"{outcome.error}" if ours else f"{outcome.error_type}: {outcome.error}"


def _hints(summary: Summary, say: Say, *, same_ids: bool) -> list[str]:
    by_status = summary.by_status
    suspended = by_status.get("suspended", [])
    hints = []
    waiting = sorted({name for one in suspended for name in one.waiting_for})
    if waiting:
        waiting_for = next(one for one in suspended if one.waiting_for)
        hints.append(
            f"Suspended instances wait for the signal {' or '.join(waiting)}; the first: "
            f"{say('signal', waiting_for.id or '', waiting_for.waiting_for[0])}"
        )
    asleep = [one for one in suspended if not one.waiting_for]
    if asleep:
        again = (
            "run the same command again then, with the same ids"
            if same_ids
            else f"then {say('recover')} goes on with them; {_NO_IDS}"
        )
        hints.append(f"Suspended instances go on at their time{_first(asleep, 'the first', 'is due')}: {again}.")
    owned = [one for status in ("running", "rolling_back", "pending") for one in by_status.get(status, [])]
    if owned:
        again = (
            "run the same command again to go on with them"
            if same_ids
            else f"{say('recover')} goes on with them; {_NO_IDS}"
        )
        hints.append(
            f"Running instances belong to another invocation, or to one that died and whose lease has not ended"
            f"{_first(owned, 'the first lease', 'ends')}: {again}."
        )
    for status, needs in _NEEDS:
        first = next((one for one in by_status.get(status, []) if one.id), None)
        if first is not None:
            hints.append(f"{needs}; the first: {say('show', first.id)}")
    return hints


def _first(left: list[Outcome], what: str, does: str) -> str:
    """When the first of them can go on, and the patience that waits for the last; nothing if that is not known."""
    times = [one.goes_on_at for one in left if one.goes_on_at is not None]
    if not times:
        return ""
    now = time()
    soonest, latest = (max(0, ceil(moment - now)) for moment in (min(times), max(times)))
    enough = ceil((latest + _SPARE) / 10) * 10
    waits = "it" if len(left) == 1 else "them all"
    return f" ({what} {does} in {soonest} s; --patience {enough} waits for {waits})"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
