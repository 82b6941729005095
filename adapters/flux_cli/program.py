"""The tree of commands. It must not contain what a command does: each is a module of `flux_cli.commands`."""

from __future__ import annotations

import platform
import sys
from inspect import getdoc
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperGroup

from flux_cli.commands import (
    build,
    check,
    control,
    dev,
    doctor,
    exporting,
    importing,
    init,
    listing,
    purge,
    recover,
    repair,
    show,
)
from flux_cli.commands import run as run_command
from flux_cli.exits import USAGE, CommandFailed
from flux_cli.failures import told
from flux_core import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Commands(TyperGroup):
    """Ends a command that failed with one sentence on standard error and its exit code."""

    def invoke(self, ctx: Any) -> object:
        """Invoke as usual; `CommandFailed`, and what the engine raises, becomes the exit."""
        try:
            with told():
                return super().invoke(ctx)
        except CommandFailed as failed:
            sys.stderr.write(f"flux: {failed}\n")
            raise typer.Exit(failed.exit_code) from failed


def _version(asked: bool) -> None:  # noqa: FBT001 -- typer hands over the flag's value
    if asked:
        sys.stdout.write(f"flux {__version__} (Python {platform.python_version()})\n")
        raise typer.Exit


def _prose(command: Callable[..., None]) -> str:
    """The docstring as typer shows it: each paragraph on one line to be wrapped, what follows a colon as a list."""
    paragraphs = [" ".join(paragraph.split()) for paragraph in (getdoc(command) or "").split("\n\n")]
    listing = next((at for at, paragraph in enumerate(paragraphs) if paragraph.endswith(":")), len(paragraphs))
    return "\n\n".join([*paragraphs[:listing], "\n".join(paragraphs[listing:])]).strip()


def flux(
    ctx: typer.Context,
    *,
    app: Annotated[str | None, typer.Option("--app", hidden=True)] = None,
    as_json: Annotated[bool, typer.Option("--json", hidden=True)] = False,
    version: Annotated[  # noqa: ARG001 -- its callback has answered
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable workflows: declared once, resumed after any crash.

    Exit codes of every command:

    0 done; what was touched has completed, or waits, or was looked at

    1 done, and an instance has failed, was undone, is stuck or blocked

    2 the command line is wrong, or names a workflow, id or step that there is not

    3 the app, its store or a package cannot be used

    4 refused: the instance's status forbids it, and the message says what to do

    130 interrupted
    """
    if app is not None or as_json:
        option, value = ("--json", "") if app is None else ("--app", f" {app}")
        message = f"{option} comes after the command: flux {ctx.invoked_subcommand} {option}{value}"
        raise CommandFailed(message, USAGE)


_COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "run": run_command.run,
    "list": listing.list_instances,
    "show": show.show,
    "signal": control.signal,
    "retry": repair.retry,
    "resume": repair.resume,
    "complete": repair.complete,
    "skip": repair.skip,
    "pause": control.pause,
    "unpause": control.unpause,
    "cancel": control.cancel,
    "recover": recover.recover,
    "dev": dev.dev,
    "export": exporting.export,
    "import": importing.import_file,
    "purge": purge.purge,
    "check": check.check,
    "doctor": doctor.doctor,
    "init": init.init,
    "build": build.build,
}

program = typer.Typer(name="flux", cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)
program.callback(help=_prose(flux))(flux)
for _name, _command in _COMMANDS.items():
    program.command(_name, help=_prose(_command))(_command)
