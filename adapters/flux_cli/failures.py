"""What the engine raises, as the command line tells it. The only place that maps its errors to exit codes."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from flux_cli.exits import INTERRUPTED, REFUSED, SOME_FAILED, UNUSABLE, USAGE, CommandFailed
from flux_core import (
    CallerError,
    Conflict,
    CorruptRecord,
    FluxError,
    InvocationError,
    PurgeUnfinished,
    Refused,
    UnknownInstance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

VERBS: Final = {"retry_step": "retry", "complete_step": "complete", "skip_step": "skip"}
"""What the engine's verbs are called here."""


@contextmanager
def told(interrupted: str = "nothing was changed") -> Iterator[None]:
    """Whatever ends what is done within becomes a sentence and an exit code; `interrupted` is said after a Ctrl-C."""
    try:
        yield
    except FluxError as error:
        raise failure(error) from error
    except KeyboardInterrupt as error:
        raise CommandFailed(f"interrupted; {interrupted}", INTERRUPTED) from error


def failure(error: FluxError) -> CommandFailed:
    """How a command ends that the engine has refused or could not carry out, in the words of the command line."""
    message = str(error)
    match error:
        case Refused() | Conflict():
            verb, space, rest = message.partition(" ")
            message = f"{VERBS.get(verb, verb)}{space}{rest}".replace("pass force=True if", "add --force if")
            return CommandFailed(message.replace("dedupe_id", "--dedupe-id"), REFUSED)
        case PurgeUnfinished():
            return CommandFailed(message, REFUSED)
        case UnknownInstance():
            return CommandFailed(f"{message}; flux list shows those there are", USAGE)
        case CallerError():
            return CommandFailed(message, USAGE)
        case InvocationError():
            return CommandFailed(f"the app's store cannot be used: {message}", UNUSABLE)
        case CorruptRecord():
            return CommandFailed(f"the app's store holds what cannot be read: {message}", UNUSABLE)
        case _:
            return CommandFailed(message, SOME_FAILED)
