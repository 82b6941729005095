"""What the shell offers for half a word: statuses, workflows, ids, steps, signals. It must not fail or print.

Names are asked of the app that `--app` or FLUX_APP names; without one there is nothing to offer.
"""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from typing import TYPE_CHECKING, Final

import typer

from flux_core.state import STATUSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flux_core import FluxEngine

    Completion = Callable[[typer.Context, list[str], str], list[str]]

_MOST_IDS: Final = 200
"""The newest instances that ids are offered from."""


def statuses(incomplete: str) -> list[str]:
    """The statuses of an instance."""
    return [status for status in STATUSES if status.startswith(incomplete)]


def workflow_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The workflows of the app."""
    return _offered(ctx, incomplete, lambda engine: engine.workflows)


def step_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """The steps of the workflow that the words before name."""
    return _offered(ctx, incomplete, lambda engine: _steps(engine, _given(ctx)))


def words_of(*names: str) -> Callable[[typer.Context, str], list[str]]:
    """What comes next in `[WORKFLOW]` and the words called `names`: `ID`, `STEP` or `NAME` (of a signal)."""

    def next_word(ctx: typer.Context, incomplete: str) -> list[str]:
        def candidates(engine: FluxEngine) -> Iterable[str]:
            given = _given(ctx)
            named = bool(given) and given[0] in engine.workflows
            place = len(given) - named
            if place >= len(names):
                return ()
            match names[place]:
                case "ID":
                    known = () if named or len(engine.workflows) == 1 else engine.workflows
                    page = engine.list(given[0] if named else None, limit=_MOST_IDS)
                    return [*known, *(item.id for item in page.items)]
                case "STEP":
                    return _steps(engine, given)
                case _:
                    return _awaited(engine, given)

        return _offered(ctx, incomplete, candidates)

    return next_word


def _offered(ctx: typer.Context, incomplete: str, candidates: Callable[[FluxEngine], Iterable[str]]) -> list[str]:
    from flux_cli.apps import load_engine

    app = ctx.params.get("app")
    found: list[str] = []
    # Whatever the app prints or raises would end up in the line that is being typed.
    with suppress(Exception), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        if isinstance(app, str):
            found = list(candidates(load_engine(app)))
    return list(dict.fromkeys(word for word in found if word.startswith(incomplete)))


def _given(ctx: typer.Context) -> list[str]:
    return list(ctx.params.get("words") or ())


def _steps(engine: FluxEngine, given: list[str]) -> list[str]:
    names = [given[0]] if given and given[0] in engine.workflows else list(engine.workflows)
    return [path for name in names for path in engine.workflows[name].by_path]


def _awaited(engine: FluxEngine, given: list[str]) -> list[str]:
    names, id_ = ([given[0]], given[1]) if given[0] in engine.workflows else (list(engine.workflows), given[0])
    found: list[str] = []
    for name in names:
        with suppress(Exception):
            found += engine.get(name, id_).state.awaited
    return found
