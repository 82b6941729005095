"""Reads inputs: JSON lines from a file or standard input, or one document. It must not know workflows or engines."""

from __future__ import annotations

import json
import sys
from codecs import BOM_UTF8
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from flux_cli.exits import USAGE, CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

STANDARD_INPUT: Final = "-"


class Line(NamedTuple):
    """One input: its line number (from 1), and what it holds or why it holds nothing."""

    number: int
    value: object
    problem: str | None = None


class Inputs:
    """The inputs of one command. `total` is None where it cannot be known beforehand (standard input)."""

    def __init__(self, source: str | None, document: str | None) -> None:
        """`source` is a path or `-`; `document` one JSON text. Exactly one is given; `CommandFailed` if it is wrong."""
        self._source = source
        self._document = document
        self.name = "--input" if document is not None else "standard input" if source == STANDARD_INPUT else str(source)
        self.total: int | None = None
        if document is not None:
            self.total = 1
            line = parsed(1, document.encode())
            if line.problem is not None:
                raise CommandFailed(f"--input is {line.problem}", USAGE)
        elif source != STANDARD_INPUT:
            with self._open() as file:
                self.total = sum(1 for raw in file if _bare(raw).strip())

    def __iter__(self) -> Iterator[Line]:
        """Every line that is not blank; one that is no JSON comes with its problem, and the others follow."""
        if self._document is not None:
            yield parsed(1, self._document.encode())
            return
        with self._open() as file:
            for number, raw in enumerate(file, 1):
                if _bare(raw).strip():
                    yield parsed(number, raw)

    def _open(self) -> BinaryIO:
        if self._source == STANDARD_INPUT:
            return sys.stdin.buffer
        path = Path(self._source or "")
        if not path.exists():
            raise CommandFailed(
                f"there is no file {self.name!r} in {Path.cwd()}; give a file of JSON lines, or - for standard input",
                USAGE,
            )
        try:
            return path.open("rb")
        except OSError as error:
            raise CommandFailed(
                f"{self.name!r} cannot be read: {error.strerror}; give a file of JSON lines", USAGE
            ) from error


def parsed(number: int, raw: bytes) -> Line:
    """The JSON of `raw`, or why it is none."""
    bare = _bare(raw)
    try:
        text = bare.decode()
    except UnicodeDecodeError as error:
        place = error.start + 1 + raw.index(bare)
        return Line(number, None, f"no UTF-8 (byte {place}); save it as UTF-8")
    try:
        return Line(number, json.loads(text, parse_constant=_no_constant))
    except json.JSONDecodeError as error:
        # An unterminated string is found at its beginning, everything else that lacks its end behind the last column.
        early = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
        why = f"the line ends too early: {error.msg}" if early else error.msg
        where = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        return Line(number, None, f"no JSON ({why}, {where}){_hint(text)}")
    except (ValueError, RecursionError) as error:
        return Line(number, None, f"no JSON that can be kept ({error})")


def _bare(raw: bytes) -> bytes:
    """Without the line's end, and without the byte order mark that joined files have in their middle."""
    return raw.removeprefix(BOM_UTF8).rstrip(b"\r\n")


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _hint(text: str) -> str:
    if text.strip() in {"{", "["}:
        return "; it seems to be one document over several lines: put each input on a line of its own (jq -c does it)"
    return ""
