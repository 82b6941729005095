"""Where a command writes: results to standard output, notes to standard error. It must not know what they say."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console

from flux_cli.exits import UNUSABLE, CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

_WIDE: Final = 1000
"""Columns where nobody looks: a line of a table stays one line, so that `grep` finds it whole."""


def results() -> Console:
    """Standard output: as wide as the terminal, or wide enough for anything if there is none."""
    _lenient(sys.stdout)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    return console


def notes() -> Console:
    """Standard error."""
    _lenient(sys.stderr)
    return Console(stderr=True)


def note(err: Console, text: str) -> None:
    """One line on standard error, whatever the width."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def emit(line: dict[str, object]) -> None:
    """One line of JSON on standard output."""
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(line)
    with written():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


@contextmanager
def written(advice: str = "make room, then run the command again") -> Iterator[None]:
    """What is written within either gets out, or ends the command with a sentence."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise CommandFailed(
            f"the results cannot be written to standard output: {error.strerror}; {advice}", UNUSABLE
        ) from error


def drop_output() -> None:
    """Python would complain at exit when it flushes what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lenient(stream: TextIO) -> None:
    """What the stream cannot encode is written with backslashes instead of ending the command."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
