"""The connections of one `PostgresStorage`: as many as run at once, kept for the next call. It must not know a table.

This module imports the driver, so it is imported by the first call. A connection that broke is not used again, and with
it go those that were idle: most likely they broke with it. After a fork a child opens its own and leaves the parent's
alone.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

import psycopg
from psycopg import conninfo as info

from flux_core.errors import DefinitionError, StorageUnavailable
from flux_local.postgres_faults import translate
from flux_local.postgres_schema import check, look
from flux_local.postgres_statement import Session

if TYPE_CHECKING:
    from flux_core.errors import FluxError

_BREAKING = ("08", "25006", "57P")
"""How the codes of errors begin after which other connections are no good either: broken, read only, shut down."""


class Sessions:
    """All sessions of one store."""

    driver_error = psycopg.Error

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
        self._idle: deque[Session] = deque()
        self._change = threading.Condition()
        """Held to count sessions, and to wait for one."""
        self._count = 0
        """Sessions that are open, or being opened."""
        self._waiting = 0

    def take(self, *, unchecked: bool = False) -> Session:
        """A session for one call, which ends no later than the timeout from now on.

        `unchecked`: one that may find no tables.
        """
        give_up_at = time.monotonic() + self.timeout
        while True:
            try:
                session = self._idle.pop()  # the one used last: the others may be closed by whoever counts idleness
            except IndexError:
                session = self._another(give_up_at, unchecked=unchecked)
            if not self._closed and not session.broken:
                session.give_up_at = give_up_at
                return session
            self.discard(session)
            self._check_open()

    def give_back(self, session: Session) -> None:
        """End of a call in which nothing went wrong."""
        self._idle.append(session)
        if self._waiting:
            with self._change:
                self._change.notify()
        if self._closed:
            self.drop_idle()

    def discard(self, session: Session) -> None:
        """End of a session."""
        session.close()
        with self._change:
            self._count -= 1
            self._change.notify()

    def fault(self, error: psycopg.Error) -> FluxError:
        """The kit's error for `error`; if a connection broke, idle ones most likely broke with it."""
        if error.sqlstate is None or error.sqlstate.startswith(_BREAKING):
            self.drop_idle()
        return translate(error, self.place)

    def drop_idle(self) -> None:
        """Close the sessions that nobody uses."""
        with suppress(IndexError):
            while True:
                self.discard(self._idle.pop())

    def close(self) -> None:
        """Close every session; those that are in use when their call ends."""
        self._closed = True
        self.drop_idle()

    def forget(self) -> None:
        """In the child of a fork: leave the parent's connections as they are, for they are his."""
        _left_alone.extend(self._idle)
        self._start()

    def _another(self, give_up_at: float, *, unchecked: bool) -> Session:
        """One that was given back meanwhile, or a new one if there may be more."""
        with self._change:
            self._waiting += 1  # first: whoever gives one back after this look tells us
            try:
                while True:
                    self._check_open()
                    with suppress(IndexError):
                        return self._idle.pop()
                    if self._count < self._most:
                        self._count += 1
                        break
                    if not self._change.wait(give_up_at - time.monotonic()):
                        raise self._too_busy()
            finally:
                self._waiting -= 1
        try:
            return self._open(give_up_at, unchecked=unchecked)
        except BaseException:
            with self._change:
                self._count -= 1
                self._change.notify()
            raise

    def _open(self, give_up_at: float, *, unchecked: bool) -> Session:
        try:
            connection = psycopg.connect(self._conninfo, autocommit=True)
        except psycopg.Error as error:
            raise translate(error, self.place) from error
        session = Session(connection, prepared=self._prepared)
        try:
            session.give_up_at = max(give_up_at, time.monotonic() + 1)
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

    def _check_open(self) -> None:
        if self._closed:
            raise StorageUnavailable(f"This PostgresStorage on {self.place} was closed. Make a new one.")

    def _too_busy(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"The workflow store {self.place} did not answer: all {self._most} connections of this process were "
            f"busy for {self.timeout:g} s. Run fewer at a time, or pass more connections= to PostgresStorage."
        )


_living: WeakSet[Sessions] = WeakSet()
_left_alone: list[Session] = []
"""Sessions of a parent process. Closing them here would tell the server that the parent has gone."""


def _after_fork_in_child() -> None:
    for sessions in list(_living):
        sessions.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
