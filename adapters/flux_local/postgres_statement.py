"""`Session`: one connection, one statement on it at a time, and none is waited for longer than a call may take.

It speaks through `psycopg.pq`, the driver's own layer over libpq. The layer above waits without a limit, and knows
hundreds of types, for which it takes 60 µs a statement; the store has four types, and a durable step takes 300 µs.
It must not know what a statement means.
"""

from __future__ import annotations

import select
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors
from psycopg.pq import DiagnosticField, ExecStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Final  # rows as the driver gives them

    from psycopg.pq.abc import PGresult

_PREPARE_AFTER = 5
"""Times that a statement is sent whole before the connection is told to remember it, which costs a round trip."""
_TEXT, _BINARY = 0, 1


def _whole(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


_LOADERS: Final[dict[int, Callable[[bytes], object]]] = {
    16: lambda raw: raw == b"\x01",
    17: bytes,
    19: bytes.decode,
    20: _whole,
    21: _whole,
    23: _whole,
    25: bytes.decode,
}
"""By the number of a type: bool, bytea, name, bigint, smallint, integer, text."""

_numbered: dict[str, bytes] = {}
"""Statements as PostgreSQL takes them: `$1`, `$2` for `?`. The store has some thirty."""


class NoAnswer(psycopg.OperationalError):
    """The time of a call is over."""


class Session:
    """A connection in autocommit; as a `Cursor` it is what statements are run on."""

    __slots__ = (
        "_connection",
        "_either",
        "_names",
        "_pgconn",
        "_prepared",
        "_readable",
        "_result",
        "_uses",
        "give_up_at",
    )

    def __init__(self, connection: psycopg.Connection, *, prepared: bool) -> None:
        """Take over an open connection."""
        self.give_up_at = 0.0
        """By the monotonic clock."""
        self._connection = connection
        self._pgconn = connection.pgconn
        self._prepared = prepared
        self._uses: dict[str, int] = {}
        self._names: dict[str, bytes] = {}
        self._result: PGresult | None = None
        self._readable = _waiting(connection.fileno(), read=True)
        self._either = _waiting(connection.fileno(), read=True, write=True)

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""
        return 0 if self._result is None else self._result.command_tuples or 0

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Session:
        """Run one statement, with `?` for each value: text, a whole number, bytes or None.

        `psycopg.Error` if it fails, or is not answered in time: then the session cannot be used any more.
        """
        sent: list[bytes | None] = []
        formats = []
        for value in values:
            kind = type(value)
            if kind is bytes:
                sent.append(value)
                formats.append(_BINARY)
            elif kind is str:
                sent.append(value.encode())
                formats.append(_BINARY)  # with its length: as text a NUL character would end it
            else:
                sent.append(None if value is None else b"%d" % value)
                formats.append(_TEXT)
        name = self._names.get(query)
        if name is None and self._prepared:
            name = self._remembered(query)
        if name is None:
            self._pgconn.send_query_params(_as_numbered(query), sent, None, formats, _BINARY)
        else:
            self._pgconn.send_query_prepared(name, sent, formats, _BINARY)
        self._result = self._answer()
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that the last statement gave."""
        result = self._result
        if result is None:
            return []
        loaders = [_LOADERS.get(result.ftype(column), bytes) for column in range(result.nfields)]
        rows = []
        for number in range(result.ntuples):
            values = (result.get_value(number, column) for column in range(len(loaders)))
            rows.append(
                tuple(None if raw is None else load(raw) for raw, load in zip(values, loaders, strict=True))
            )  # fmt: skip
        return rows

    @property
    def broken(self) -> bool:
        """Whether the other side has closed it, as far as can be told without asking."""
        try:
            while self._readable(0.0):  # idle, a server rarely says anything but good-bye
                self._pgconn.consume_input()
        except psycopg.Error:
            return True
        return False

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        with suppress(psycopg.Error):
            self._connection.close()

    def _remembered(self, query: str) -> bytes | None:
        """The name by which the connection knows a statement, once it was used often enough."""
        uses = self._uses[query] = self._uses.get(query, 0) + 1
        if uses <= _PREPARE_AFTER:
            return None
        name = b"flux_%d" % len(self._names)
        self._pgconn.send_prepare(name, _as_numbered(query))
        self._answer()
        self._names[query] = name
        return name

    def _answer(self) -> PGresult | None:
        """Wait for the answer to what was sent, and read it to its end."""
        pgconn = self._pgconn
        while pgconn.flush():
            self._wait(self._either)
            pgconn.consume_input()
        answer: PGresult | None = None
        while True:
            while pgconn.is_busy():
                self._wait(self._readable)
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                break
            answer = result
        if answer is not None and answer.status not in _FINE:
            raise _error(answer)
        return answer

    def _wait(self, ready: Callable[[float], object]) -> None:
        left = self.give_up_at - time.monotonic()
        if left <= 0 or not ready(left):
            message = "the call took longer than the timeout of PostgresStorage"
            raise NoAnswer(message)


_FINE = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})


def _waiting(file: int, *, read: bool = False, write: bool = False) -> Callable[[float], object]:
    """From seconds to something true if one of the two is possible by then.

    With poll(2) where there is one, since select(2) knows only the first 1,024 files.
    """
    if not hasattr(select, "poll"):
        reading, writing = [file] * read, [file] * write
        return lambda seconds: any(select.select(reading, writing, [], seconds))
    poll = select.poll()
    poll.register(file, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
    return lambda seconds: poll.poll(seconds * 1000)


def _as_numbered(query: str) -> bytes:
    known = _numbered.get(query)
    if known is None:
        first, *rest = query.split("?")
        text = first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))
        known = _numbered[query] = text.encode()
    return known


def _error(result: PGresult) -> psycopg.Error:
    code = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    text = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message).decode("utf-8", "replace")
    try:
        kind = errors.lookup(code)
    except KeyError:
        kind = psycopg.OperationalError
    return kind(text)
