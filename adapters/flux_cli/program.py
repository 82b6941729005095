"""The tree of commands. It must not contain what a command does: each is a module of `flux_cli.commands`."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from flux_cli.commands import run as run_command
from flux_cli.exits import CommandFailed
from flux_core import __version__

if TYPE_CHECKING:
    from typing import Any


class _Commands(TyperGroup):
    """Ends a command that failed with one sentence on standard error and its exit code."""

    def invoke(self, ctx: Any) -> object:
        """Invoke as usual; `CommandFailed` becomes the exit."""
        try:
            return super().invoke(ctx)
        except CommandFailed as failed:
            sys.stderr.write(f"flux: {failed}\n")
            raise typer.Exit(failed.exit_code) from failed


def _version(asked: bool) -> None:  # noqa: FBT001 -- typer hands over the flag's value
    if asked:
        sys.stdout.write(f"flux {__version__} (Python {platform.python_version()})\n")
        raise typer.Exit


program = typer.Typer(
    name="flux", cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
program.command("run")(run_command.run)


@program.callback()
def flux(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Durable workflows: declared once, resumed after any crash."""
