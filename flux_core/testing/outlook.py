"""What an instance waits for now, and what would move it, in sentences with the calls to write. It changes nothing."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from flux_core import state as s
from flux_core.machine import takeover_at
from flux_core.testing.spans import arguments, moment, shown, span
from flux_core.workflow import UNDO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flux_core.state import WorkflowState


_MOST_WAITS = 8
"""Open waits that are told one by one."""


class Letter:
    """A signal in the mailbox that nobody has taken."""

    __slots__ = ("at", "name", "payload")

    def __init__(self, name: str, payload: object, at: int) -> None:
        self.name = name
        self.payload = payload
        self.at = at
        """When it was sent, in ms since the epoch."""


def outlook(state: WorkflowState, letters: Sequence[Letter], now: int) -> list[str]:
    """Sentences: where it stands, how to go on, which signals nobody has taken."""
    return [*_standing(state, now), *_unread(state, letters)]


def _standing(state: WorkflowState, now: int) -> list[str]:
    match state.status:
        case s.COMPLETED:
            return []
        case s.FAILED | s.ROLLED_BACK | s.CANCELLED:
            return _ended(state)
        case s.STUCK:
            return _stuck(state)
        case s.BLOCKED:
            return [f"It is blocked: {state.error}"]
        case s.PAUSED:
            return ["It is paused. To go on: run.unpause()."]
        case _:
            return _under_way(state, now)


def _under_way(state: WorkflowState, now: int) -> list[str]:
    if state.owned:
        due = takeover_at(state)
        left = max(due - now, 0)
        return [
            f"An invocation owns it until its lease ends, in {span(left)}. If it has died, another goes on then.",
            f"To go on: flux.advance({arguments(left)}).",
        ]
    lines: list[str] = []
    if state.undoing:
        lines += [line for path in list(state.children)[:_MOST_WAITS] for line in _parental(path, state)]
    else:
        for path, wait in list(state.waits.items())[:_MOST_WAITS]:
            if path in state.children:
                lines += _parental(path, state)
                continue
            lines += _waiting(path, wait.signals, wait.due, now, fails=wait.default is None)
        if len(state.waits) > _MOST_WAITS:
            lines.append(f"{len(state.waits) - _MOST_WAITS} more steps wait.")
    for key, due in state.retry_at.items():
        what = f"The compensation of step {key.removesuffix(UNDO)!r}" if key.endswith(UNDO) else f"Step {key!r}"
        left = max(due - now, 0)
        lines.append(f"{what} is tried again in {span(left)}. To go on: flux.advance({arguments(left)}).")
    if state.expires is not None and not state.undoing:
        left = max(state.expires - now, 0)
        lines.append(f"The whole workflow may take another {span(left)}.")
    return lines or ["It has been handed over and is due now. To go on: flux.run_until_idle()."]


def _waiting(path: str, signals: tuple[str, ...], due: int | None, now: int, *, fails: bool) -> list[str]:
    left = None if due is None else max(due - now, 0)
    if not signals:
        assert left is not None  # noqa: S101 -- a sleep has an end
        return [f"Step {path!r} sleeps for another {span(left)}. To go on: flux.advance({arguments(left)})."]
    names = " or ".join(map(repr, signals))
    until = "without a timeout" if due is None else f"for another {span(left or 0)} (until {moment(due)})"
    lines = [f"Step {path!r} waits for signal {names} {until}.", f'To go on: run.signal("{signals[0]}", payload).']
    if left is not None:
        then = "to let the wait fail" if fails else "to let the wait end with its on_timeout"
        lines[1] = f"{lines[1][:-1]}, or flux.advance({arguments(left)}) {then}."
    return lines


def _parental(path: str, state: WorkflowState) -> list[str]:
    workflow, _, id_ = (state.steps[path].child or "").partition("/")
    end = "is undone" if state.undoing else "ends"
    return [
        f"Step {path!r} waits until its child {workflow}/{id_} {end}.",
        f'To go on: move the child, flux.instance("{workflow}", "{id_}").',
    ]


def _ended(state: WorkflowState) -> list[str]:
    left = [step.path for step in state.steps.values() if step.status == s.COMPENSATION_FAILED]
    lines = [f"The compensation of step {path!r} failed: run.complete_step({path!r}) says it was undone by hand, "
             f"run.skip_step({path!r}) leaves it standing." for path in left]  # fmt: skip
    if not left and state.status != s.CANCELLED:
        lines.append("To try again: run.resume(), or run.retry_step(step) from an earlier step.")
    return lines


def _stuck(state: WorkflowState) -> list[str]:
    reason, path, detail = state.stuck or (None, None, None)
    ways = f"run.complete_step({path!r}), run.skip_step({path!r}), run.retry_step({path!r}) or run.cancel()"
    return [f"It is stuck at step {path!r} ({reason}): {detail}.", f"To go on: {ways}."]


def _unread(state: WorkflowState, letters: Sequence[Letter]) -> list[str]:
    awaited = () if state.terminal else state.awaited
    lines = []
    for letter in letters:
        line = f"Nobody has taken signal {letter.name!r} {shown(letter.payload)}"
        near = get_close_matches(letter.name, [name for name in awaited if name != letter.name], 1)
        lines.append(f"{line}; is {near[0]!r} meant?" if near else f"{line}.")
    return lines
