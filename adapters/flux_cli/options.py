"""The options and arguments that several commands share, each declared once."""

from __future__ import annotations

from getpass import getuser
from typing import Annotated

import typer

from flux_cli.apps import VARIABLE
from flux_cli.completion import statuses, words_of

App = Annotated[
    str | None,
    typer.Option(
        envvar=VARIABLE,
        metavar="MODULE:ATTRIBUTE",
        help="A FluxEngine, or a function that returns one; shop.app:engine, for example.",
        show_default=False,
    ),
]
Instance = Annotated[
    list[str] | None,
    typer.Argument(metavar="[WORKFLOW] ID", help="The instance.", autocompletion=words_of("ID"), show_default=False),
]
Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help="Only those of this status; may be given several times.",
        autocompletion=statuses,
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on one line instead of text.")]
Who = Annotated[
    str | None,
    typer.Option(
        "--who",
        metavar="NAME",
        help="Who does it, if not the user that you are logged in as; kept in the log.",
        show_default=False,
    ),
]
Why = Annotated[str | None, typer.Option(metavar="TEXT", help="Why it is done; kept in the log.", show_default=False)]


def who(given: str | None) -> str | None:
    """`given`, or the operating system's name of the user; None if it has none."""
    if given is not None:
        return given
    try:
        return getuser()
    except (KeyError, OSError):
        return None
