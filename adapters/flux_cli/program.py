"""The tree of commands. It must not contain what a command does: each is a module of `flux_cli.commands`."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from flux_cli.commands import check, control, dev, exporting, importing, listing, purge, recover, repair, show
from flux_cli.commands import run as run_command
from flux_cli.exits import CommandFailed
from flux_cli.failures import told
from flux_core import __version__

if TYPE_CHECKING:
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


program = typer.Typer(name="flux", cls=_Commands, no_args_is_help=True, pretty_exceptions_enable=False)
program.command("run")(run_command.run)
program.command("list")(listing.list_instances)
program.command("show")(show.show)
program.command("signal")(control.signal)
program.command("retry")(repair.retry)
program.command("resume")(repair.resume)
program.command("complete")(repair.complete)
program.command("skip")(repair.skip)
program.command("pause")(control.pause)
program.command("unpause")(control.unpause)
program.command("cancel")(control.cancel)
program.command("recover")(recover.recover)
program.command("dev")(dev.dev)
program.command("export")(exporting.export)
program.command("import")(importing.import_file)
program.command("purge")(purge.purge)
program.command("check")(check.check)


@program.callback()
def flux(
    *,
    version: Annotated[
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
