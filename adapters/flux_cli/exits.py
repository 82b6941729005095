"""The exit codes of every command, and the one error that ends a command with a sentence instead of a traceback."""

from __future__ import annotations

from typing import Final

GOOD: Final = 0
"""All that was asked for is done, or waits for what only others can bring."""

SOME_FAILED: Final = 1
"""The command did its work, and some instances failed, were undone, are stuck, or never started."""

USAGE: Final = 2
"""The command line is wrong, or names a workflow, id or step that does not exist; nothing was done."""

UNUSABLE: Final = 3
"""The app, its store, or a package that the command line needs cannot be used."""

REFUSED: Final = 4
"""The instance's status forbids it, or it contradicts what is on record; nothing was done."""

INTERRUPTED: Final = 130
"""Ctrl-C: 128 + SIGINT, as shells have it."""

TERMINATED: Final = 143
"""SIGTERM: 128 + 15, as shells have it."""


class CommandFailed(Exception):
    """Ends the command: the message, one sentence that says what to do, goes to standard error."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
