"""The connections of one `PostgresStorage`: as many as run at once, kept for the next call. It must not know SQL.

This module imports the driver, so it is imported by the first call. A connection that broke is not used again, and with
it go those that were idle: most likely they broke with it. After a fork a child opens its own and leaves the parent's
alone.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import conninfo as info

from flux_core.errors import DefinitionError, StorageUnavailable
from flux_local.postgres_faults import translate
from flux_local.postgres_schema import check, look

if TYPE_CHECKING:
    from collections.abc import Generator

    from flux_core.errors import FluxError
    from flux_local.sql_storage import Cursor

T = TypeVar("T")

_BREAKING = ("08", "25006", "57P")
"""How the codes of errors begin after which other connections are no good either: broken, read only, shut down."""


class _NoAnswer(psycopg.OperationalError):
    """The time of a call is over."""


class _Connection(psycopg.Connection[tuple[Any, ...]]):
    """One that waits no longer than until `give_up_at`, whatever the network or the server does."""

    give_up_at = float("inf")

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        return super().wait(_limited(gen, self.give_up_at), *args, **options)


def _limited(gen: Generator[Any, Any, T], give_up_at: float) -> Generator[Any, Any, T]:
    """`gen`, which is asked every 100 ms at least, until it is too late."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() >= give_up_at:
                message = "the call took longer than the timeout of PostgresStorage"
                raise _NoAnswer(message)
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


class Session:
    """One connection in autocommit, with its cursor."""

    __slots__ = ("_cursor", "_poll", "connection")

    def __init__(self, connection: _Connection) -> None:
        """Take over an open connection."""
        self.connection = connection
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._cursor = connection.cursor(binary=True)  # bytes come as they are, not as hexadecimal digits

    @property
    def rowcount(self) -> int:
        """See `Cursor`."""
        return self._cursor.rowcount

    def execute(self, query: str, values: Any = (), /) -> Cursor:
        """See `Cursor`."""
        self._cursor.execute(query.encode(), values or None)
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        """See `Cursor`."""
        return self._cursor.fetchall()

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        with suppress(psycopg.Error):
            self.connection.close()

    @property
    def broken(self) -> bool:
        """Whether the other side has closed it, as far as can be told without asking."""
        return bool(self.connection.closed or self._poll.poll(0))  # an idle server says nothing but good-bye


class Sessions:
    """All sessions of one store."""

    def __init__(self, conninfo: str, schema: str, timeout: float, most: int, *, prepared: bool) -> None:
        """As `PostgresStorage` was given them. Opens nothing; `DefinitionError` if `conninfo` cannot be read."""
        self.schema = schema
        self.timeout = timeout
        self._prepared = prepared
        self._most = most
        try:
            parts = info.conninfo_to_dict(conninfo)
        except psycopg.Error as error:
            message = f"PostgresStorage cannot read its connection string ({str(error).strip()})"
            raise DefinitionError(message) from error
        parts.setdefault("application_name", "flux")
        parts.setdefault("connect_timeout", max(2, int(timeout)))
        parts.setdefault("tcp_user_timeout", int(timeout * 1000))
        self._conninfo = info.make_conninfo("", **parts)
        host, port, name = (parts.get(key) for key in ("host", "port", "dbname"))
        self.place = f"{name or 'PostgreSQL'} on {host or 'the default host'}" + (f":{port}" if port else "")
        """What messages call the store: never with a password."""
        self._closed = False
        self._start()
        _living.add(self)

    def _start(self) -> None:
        self._free = threading.BoundedSemaphore(self._most)
        self._idle: deque[Session] = deque()

    driver_error = psycopg.Error

    def fault(self, error: psycopg.Error) -> FluxError:
        """The kit's error for `error`; if a connection broke, idle ones most likely broke with it."""
        if error.sqlstate is None or error.sqlstate.startswith(_BREAKING):
            self.drop_idle()
        return translate(error, self.place)

    def take(self, *, unchecked: bool = False) -> Session:
        """A session for one call, which ends no later than the timeout from now on.

        `unchecked`: one that may find no tables.
        """
        if self._closed:
            raise StorageUnavailable(f"This PostgresStorage on {self.place} was closed. Make a new one.")
        give_up_at = time.monotonic() + self.timeout
        if not self._free.acquire(timeout=self.timeout):
            raise StorageUnavailable(
                f"The workflow store {self.place} did not answer: all {self._most} connections of this process were "
                f"busy for {self.timeout:g} s. Run fewer at a time, or pass more connections= to PostgresStorage."
            )
        try:
            session = None if unchecked else self._kept()
            if session is None:
                session = self._open(unchecked=unchecked)
            session.connection.give_up_at = give_up_at
        except BaseException:
            self._free.release()
            raise
        return session

    def give_back(self, session: Session, *, fine: bool = True) -> None:
        """End of a call. `fine`: nothing went wrong, so that the session may be used again."""
        if fine and not self._closed:
            self._idle.append(session)
        else:
            session.close()
        self._free.release()

    def drop_idle(self) -> None:
        """Close the sessions that nobody uses."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Close every session; those that are in use when their call ends."""
        self._closed = True
        self.drop_idle()

    def forget(self) -> None:
        """In the child of a fork: leave the parent's connections as they are, for they are his."""
        _left_alone.extend(self._idle)
        self._start()

    def _kept(self) -> Session | None:
        while True:
            try:
                session = self._idle.pop()  # the one used last: the others may be closed by whoever counts idleness
            except IndexError:
                return None
            if not session.broken:
                return session
            session.close()

    def _open(self, *, unchecked: bool) -> Session:
        try:
            connection = _Connection.connect(
                self._conninfo, autocommit=True, prepare_threshold=5 if self._prepared else None
            )
        except psycopg.Error as error:
            raise translate(error, self.place) from error
        session = Session(connection)
        try:
            connection.give_up_at = time.monotonic() + self.timeout
            there, comment = look(session, self.schema, self.timeout)
            if not unchecked:
                check(there, comment, self.schema, self.place)
        except psycopg.Error as error:
            session.close()
            raise translate(error, self.place) from error
        except BaseException:
            session.close()
            raise
        return session


_living: WeakSet[Sessions] = WeakSet()
_left_alone: list[Session] = []
"""Sessions of a parent process. Closing them here would tell the server that the parent has gone."""


def _after_fork_in_child() -> None:
    for sessions in list(_living):
        sessions.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
