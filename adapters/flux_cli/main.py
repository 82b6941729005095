"""The console script `flux`. It must not import what the extra `cli` brings before it can say that it is missing."""

from __future__ import annotations

import sys

from flux_cli.exits import UNUSABLE

_FROM_THE_EXTRA = ("rich", "typer")


def run() -> None:
    """Run the command line of this process and exit with its code (`flux_cli.exits`)."""
    try:
        from flux_cli.program import program
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _FROM_THE_EXTRA:
            raise
        sys.stderr.write(
            f"flux: the command line needs the package {missing!r}, which is not installed; "
            f"run: pip install '.[cli]' in the checkout that Flux came from\n"
        )
        sys.exit(UNUSABLE)
    program(prog_name="flux")
