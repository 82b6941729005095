"""`flux retry`, `resume`, `complete`, `skip`: what a person decides about a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flux_cli.completion import step_names, words_of
from flux_cli.documents import json_argument
from flux_cli.exits import USAGE, CommandFailed
from flux_cli.operation import operate
from flux_cli.options import App, Instance, Json, Who, Why, who
from flux_cli.targets import targeted
from flux_core import state as s
from flux_core.machine.lanes import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from flux_cli.inspection import Inspection

_Step = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[WORKFLOW] ID STEP",
        help="The instance, and the step.",
        autocompletion=words_of("ID", "STEP"),
        show_default=False,
    ),
]


def retry(
    words: _Step = None,
    *,
    app: App = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="JSON|@FILE|-",
            help="A JSON object: its keys are set in the data that was restored.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also open an instance that has completed or was cancelled, and run STEP again even if it is a "
            "commit that succeeded: its effect happens once more.",
        ),
    ] = False,
    by: Who = None,
    why: Why = None,
    as_json: Json = False,
) -> None:
    """Restore the data to what it was before STEP, then run that step and the later ones.

    Commits that have succeeded are kept. After a rollback it starts over at the first step that was undone. The steps
    run in this process.
    """
    target = targeted(app, words, "retry", "ID", "STEP")
    (step,) = target.rest
    engine = target.engine
    patch = None if data is None else _object("--data", data)
    operate(
        target,
        lambda: engine.retry_step(target.workflow, target.id, step, force=force, data=patch, who=who(by), why=why),
        as_json=as_json,
    )


def resume(
    words: Instance = None,
    *,
    app: App = None,
    from_step: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STEP",
            help="For a failed one: where to go on, instead of the step that failed.",
            autocompletion=step_names,
            show_default=False,
        ),
    ] = None,
    by: Who = None,
    why: Why = None,
    as_json: Json = False,
) -> None:
    """Go on: a failed instance from the step that failed, any other one with whatever is due.

    After a rollback it starts over at the first step that was undone. The steps run in this process.
    """
    target = targeted(app, words, "resume", "ID")
    engine = target.engine
    operate(
        target,
        lambda: engine.resume(target.workflow, target.id, from_step, who=who(by), why=why),
        as_json=as_json,
    )


def complete(
    words: _Step = None,
    *,
    app: App = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="JSON|@FILE|-", help="What the step would have returned.", show_default=False),
    ] = None,
    by: Who = None,
    why: Why = None,
    as_json: Json = False,
) -> None:
    """Put on record that STEP, or its failed compensation, has succeeded, and go on.

    For a step whose effect is there although the log does not say so. The later steps run in this process.
    """
    target = targeted(app, words, "complete", "ID", "STEP")
    (step,) = target.rest
    value = json_argument("--output", output)
    engine = target.engine
    operate(
        target,
        lambda: engine.complete_step(target.workflow, target.id, step, value, who=who(by), why=why),
        as_json=as_json,
        remark=_put_down(step, s.COMPLETED),
    )


def skip(
    words: _Step = None,
    *,
    app: App = None,
    by: Who = None,
    why: Why = None,
    as_json: Json = False,
) -> None:
    """Put on record that STEP, or its failed compensation, is left out, and go on without it.

    The later steps run in this process.
    """
    target = targeted(app, words, "skip", "ID", "STEP")
    (step,) = target.rest
    engine = target.engine
    operate(
        target,
        lambda: engine.skip_step(target.workflow, target.id, step, who=who(by), why=why),
        as_json=as_json,
        remark=_put_down(step, s.SKIPPED),
    )


def _put_down(step: str, how: str) -> Callable[[Inspection], str | None]:
    """What the status does not tell: that a step whose turn has not come was put on record."""

    def remark(seen: Inspection) -> str | None:
        state = seen.state
        at, place = current(state), seen.definition.place
        if state.terminal or state.undoing or at is None or (place(at) or ()) >= (place(step) or ()):
            return None
        return f"Step {step} is on record as {how}, and will not run when its turn comes."

    return remark


def _object(option: str, given: str) -> dict[str, object]:
    value = json_argument(option, given)
    if not isinstance(value, dict):
        raise CommandFailed(
            f"{option} must be a JSON object, the keys of the data to set: {option} '{{\"total\": 7}}'", USAGE
        )
    return value
