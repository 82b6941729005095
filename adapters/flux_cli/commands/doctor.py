"""`flux doctor`: whether a deployment has what it needs. It must not judge: that is done where the thing is known."""

from __future__ import annotations

import os
from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from flux_cli.apps import opened
from flux_cli.asking import asked
from flux_cli.exits import GOOD, SOME_FAILED, UNUSABLE, USAGE, CommandFailed
from flux_cli.failures import told
from flux_cli.operation import note_memory
from flux_cli.options import App
from flux_cli.output import drop_output, emit, results, written
from flux_cli.styles import printable
from flux_core.doctor import FAILURE, HERE, OK, UNKNOWN, WARNING, examine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flux_core.doctor import Finding

_SHOWN: Final = {
    OK: ("ok", "green", "ok"),
    WARNING: ("look", "yellow", "to look at"),
    FAILURE: ("fails", "bold red", "failed"),
    UNKNOWN: ("?", "dim", "could not be looked at"),
}
"""By standing: a word, its colour, and what so many of them are."""
_WIDTHS: Final = (6, 8, 17)
"""Columns of the word, of where it was found, and of the subject."""


class _Cloud(NamedTuple):
    """Who knows it, and how its functions are named."""

    module: str
    extra: str
    by_address: bool
    """Functions are named by where their routes are served, and asked over HTTP."""


_CLOUDS: Final = {
    "aws": _Cloud("flux_aws.doctor", "aws", by_address=False),
    "gcp": _Cloud("flux_gcp.doctor", "gcp", by_address=True),
    "azure": _Cloud("flux_azure.doctor", "azure", by_address=True),
}


def doctor(
    cloud: Annotated[
        str | None,
        typer.Argument(
            metavar=f"[{'|'.join(_CLOUDS)}]",
            help="Where it is deployed. Without it, the app's own store is looked at.",
            autocompletion=lambda: list(_CLOUDS),
            show_default=False,
        ),
    ] = None,
    *,
    app: App = None,
    api: Annotated[str | None, typer.Option(metavar="FUNCTION", help="The function that serves the routes.")] = None,
    worker: Annotated[str | None, typer.Option(metavar="FUNCTION", help="The function that the queue invokes.")] = None,
    sweeper: Annotated[
        str | None, typer.Option(metavar="FUNCTION", help="The function that is invoked every minute.")
    ] = None,
    purge: Annotated[str | None, typer.Option(metavar="FUNCTION", help="The function that deletes.")] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="Sent to functions that are asked over HTTP; may be given again."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line a finding, and a summary as the last.")
    ] = False,
) -> None:
    """Say whether a deployment has what it needs: settings, permissions, indexes, queue, sweeper, clock.

    Settings are those of the environment here, or of the functions that are named. Each function is asked what it may
    do itself. FUNCTION is a name or an ARN on aws, elsewhere the address where its routes begin. What is tried leaves
    instances alone.

    Exit codes:

    0 nothing fails

    1 something fails

    2 the command line is wrong

    3 the app, its store or a package cannot be used
    """
    given = {"api": api, "worker": worker, "sweeper": sweeper, "purge": purge}
    functions = {part: name for part, name in given.items() if name is not None}
    counts: Counter[str] = Counter()
    out = results()
    try:
        with told("nothing was changed"):
            for where, finding in _found(cloud, app, functions, _headers(header)):
                counts[finding.standing] += 1
                if as_json:
                    emit({"where": where, **finding.tree()})
                else:
                    with written():
                        out.print(_row(where, finding))
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        raise typer.Exit(SOME_FAILED) from None
    code = SOME_FAILED if counts[FAILURE] else GOOD
    if as_json:
        emit({"summary": True, "by_standing": dict(counts), "exit_code": code})
    else:
        with written():
            out.print(", ".join(f"{counts[one]} {_SHOWN[one][2]}" for one in _SHOWN if counts[one]), markup=False)
    raise typer.Exit(code)


def _found(
    cloud: str | None, app: str | None, functions: Mapping[str, str], headers: Mapping[str, str]
) -> Iterator[tuple[str, Finding]]:
    if cloud is None:
        if functions or headers:
            raise CommandFailed(f"say which cloud the functions are on: {', '.join(_CLOUDS)}", USAGE)
        if app is None:
            raise CommandFailed(
                f"say what to look at: a cloud ({', '.join(_CLOUDS)}), or an app, for its store: "
                f"--app module:attribute, or set FLUX_APP",
                USAGE,
            )
        engine, _ = opened(app)
        note_memory(engine)
        for finding in examine(engine, "operator"):
            yield HERE, finding
        return
    known = _CLOUDS.get(cloud)
    if known is None:
        raise CommandFailed(f"there is no cloud {cloud!r}; there are {', '.join(_CLOUDS)}", USAGE)
    if app is not None and "FLUX_APP" not in os.environ:
        raise CommandFailed(f"--app is for the app's own store; of {cloud} the settings are looked at", USAGE)
    if headers and not known.by_address:
        raise CommandFailed(f"--header is for functions that are asked over HTTP, and those of {cloud} are not", USAGE)
    for part, name in functions.items():
        if known.by_address and not name.startswith(("https://", "http://")):
            raise CommandFailed(
                f"--{part} is the address where the function's routes begin, such as https://...; got {name!r}", USAGE
            )
    try:
        module = import_module(known.module)
    except ImportError as error:
        raise CommandFailed(
            f"{error.name} is not installed; run: pip install 'flux-serverless[{known.extra}]'", UNUSABLE
        ) from error
    yield from module.examined(os.environ, functions)
    if known.by_address:
        for part, address in functions.items():
            for finding in asked(address, part, headers):
                yield part, finding


def _headers(given: list[str] | None) -> dict[str, str]:
    headers = {}
    for one in given or ():
        name, colon, value = one.partition(":")
        if not (colon and name.strip()):
            raise CommandFailed(f"--header is NAME:VALUE, 'x-functions-key: ...' for example; got {one!r}", USAGE)
        headers[name.strip()] = value.strip()
    return headers


def _row(where: str, finding: Finding) -> Table:
    """A table of one row, so that it is seen as soon as it is known."""
    table = Table.grid(padding=(0, 1))
    for width in _WIDTHS:
        table.add_column(width=width, no_wrap=True)
    table.add_column(overflow="fold")
    word, style, _ = _SHOWN[finding.standing]
    table.add_row(Text(word, style), Text(where, "dim"), finding.subject, Text(printable(finding.said)))
    return table
