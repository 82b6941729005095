"""Command lines that infrastructure is checked and built with, each in an environment of its own.

`python -m tests.services.tools` makes the environments in the user's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.services.environment import Environment
from tests.services.missing import missing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INSTALL: Final = "python -m tests.services.tools (make infra does it)"


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    error: str


class Tool(NamedTuple):
    """A command, and the environment that has it."""

    title: str
    name: str
    environment: Environment

    def program(self) -> str | None:
        """The command: ours, or one that is installed."""
        own = self.environment.program(self.name)
        return shutil.which(self.name) if own is None else str(own)

    def run(self, folder: Path, *arguments: str, environment: Mapping[str, str]) -> Outcome:
        """Run the command in `folder`, with these variables beside those there are."""
        program = self.program()
        if program is None:
            missing(self.title, INSTALL)
        outcome = subprocess.run(
            [program, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": "", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Outcome(outcome.returncode, outcome.stdout, outcome.stderr)


SAM: Final = Tool("SAM's command line", "sam", Environment("sam-cli", ("aws-sam-cli==1.170.0",)))
CHECKOV: Final = Tool("checkov", "checkov", Environment("checkov", ("checkov==3.3.30",)))


def main() -> None:
    """Make the environments of the tools that are not there."""
    for tool in (SAM, CHECKOV):
        if tool.program() is None:
            tool.environment.make()


if __name__ == "__main__":
    main()
