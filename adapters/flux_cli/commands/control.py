"""`flux signal`, `pause`, `unpause`, `cancel`: what an instance is told from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from flux_cli.completion import words_of
from flux_cli.documents import json_argument
from flux_cli.operation import operate
from flux_cli.options import App, Instance, Json, Who, Why, who
from flux_cli.targets import targeted
from flux_core import state as s
from flux_core.keys import mail_id

if TYPE_CHECKING:
    from flux_cli.inspection import Inspection

_HELD: Final = {s.PAUSED: "the instance is unpaused", s.BLOCKED: "a definition that fits is deployed"}
"""What a step that waits for just this signal waits for, too."""


def signal(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORKFLOW] ID NAME",
            help="The instance, and the signal's name.",
            autocompletion=words_of("ID", "NAME"),
            show_default=False,
        ),
    ] = None,
    *,
    app: App = None,
    payload: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE|-", help="What the signal brings: the waiting step's output.", show_default=False
        ),
    ] = None,
    dedupe_id: Annotated[
        str | None,
        typer.Option(
            "--dedupe-id", metavar="ID", help="Sent again under the same id, it changes nothing.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a signal: taken at once if a step waits for it, else kept until one does.

    The steps that follow run in this process.
    """
    target = targeted(app, words, "signal", "ID", "NAME")
    (name,) = target.rest
    value = json_argument("--payload", payload)
    engine = target.engine
    dedupe = engine.entropy.token() if dedupe_id is None else dedupe_id

    def remark(seen: Inspection) -> str | None:
        state = seen.state
        if f"{name}/{mail_id(dedupe)}" in state.consumed:
            return None
        if state.terminal:
            return f"No step has taken the signal {name}; it is kept, in case the instance is opened again."
        awaited = [signal for wait in state.waits.values() for signal in wait.signals]
        if name in awaited and state.status in _HELD:
            return f"The signal {name} is kept: its step takes it once {_HELD[state.status]}."
        now = f"it waits for {' or '.join(awaited)}" if awaited else "nothing waits for it now"
        return f"The signal {name} is kept until a step waits for it; {now}."

    operate(
        target,
        lambda: engine.signal(target.workflow, target.id, name, value, dedupe),
        as_json=as_json,
        remark=remark,
    )


def cancel(
    words: Instance = None,
    *,
    app: App = None,
    by: Who = None,
    why: Why = None,
    as_json: Json = False,
) -> None:
    """Stop an instance and undo its completed steps, the last one first.

    A running one notices before its next step. The compensations run in this process. One that has ended, or is being
    undone already, stays as it is.
    """
    target = targeted(app, words, "cancel", "ID")
    engine = target.engine
    operate(target, lambda: engine.cancel(target.workflow, target.id, why, who=who(by)), as_json=as_json)


def pause(
    words: Instance = None,
    *,
    app: App = None,
    by: Who = None,
    why: Why = None,
    as_json: Json = False,
) -> None:
    """Let nothing more of an instance begin until it is unpaused.

    A step that is running ends first. Signals are kept, and timers go on counting.
    """
    target = targeted(app, words, "pause", "ID")
    engine = target.engine
    operate(target, lambda: engine.pause(target.workflow, target.id, who=who(by), why=why), as_json=as_json)


def unpause(
    words: Instance = None,
    *,
    app: App = None,
    by: Who = None,
    why: Why = None,
    as_json: Json = False,
) -> None:
    """End a pause and go on, with whatever came meanwhile.

    It also takes back a pause that waits for the running step. The steps run in this process.
    """
    target = targeted(app, words, "unpause", "ID")
    engine = target.engine
    operate(target, lambda: engine.unpause(target.workflow, target.id, who=who(by), why=why), as_json=as_json)
