"""What a killed worker was in the middle of, and how each of these attempts was settled afterwards.

What was in flight it asks the engine; what had happened, and what happened next, it reads from the journal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from examples.order_fulfilment.journal import DUPLICATE, LOOKUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from examples.order_fulfilment.journal import Entry
    from flux_core import FluxEngine, FluxResult

_UNDO: Final = {"charge": "refund", "reserve": "release"}
_IN_FLIGHT: Final = ("running", "rolling_back")


class Attempt(NamedTuple):
    """An attempt that was under way when its process died."""

    order: str
    effect: str
    """What it was to do outside: an effect of the journal, or the name of a step that does nothing there."""
    happened: bool
    """Whether it had happened, although no record of the workflow said so."""


def in_flight(engine: FluxEngine, workflow: str, journal: Sequence[Entry]) -> list[Attempt]:
    """The attempts that the dead process has left."""
    happened = {(entry.order, entry.effect) for entry in journal}
    found = []
    for result in _owned(engine, workflow):
        step = next((step for step in result.history if step.status in {"running", "compensating"}), None)
        if step is None:  # a plain step leaves no record before its effect: it is the first that is not done
            step = next((step for step in result.history if step.status == "pending"), None)
        if step is not None:
            effect = _UNDO.get(step.name, step.name) if step.status == "compensating" else step.name
            found.append(Attempt(result.id, effect, (result.id, effect) in happened))
    return sorted(found)


def settled(attempt: Attempt, later: Sequence[Entry]) -> str:
    """How the attempt was settled, in words; `later` is what the journal holds since the kill."""
    mine = [entry for entry in later if entry.order == attempt.order and attempt.effect in {entry.effect, entry.of}]
    if not mine:
        return "nothing more was needed" if attempt.happened else "step run again"
    made = any(entry.effect == attempt.effect for entry in mine)
    first = mine[0]
    if first.effect == LOOKUP:
        if first.found:
            return "verify: done; yet REPEATED" if made else "verify: done; not repeated"
        return "verify: not done; made now" if made else "verify: not done"
    if first.effect == DUPLICATE:
        return "same key sent again: suppressed"
    return "REPEATED" if attempt.happened else "made now"


def _owned(engine: FluxEngine, workflow: str) -> Iterator[FluxResult]:
    cursor = None
    while True:
        page = engine.list(workflow, list(_IN_FLIGHT), cursor=cursor)
        for item in page.items:
            yield engine.get(workflow, item.id)
        cursor = page.cursor
        if cursor is None:
            return
