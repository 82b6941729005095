"""Connections of `SQLiteStorage`: one for each thread, none across a fork. It must not know a table.

A connection must not be in use, nor even be closed, in a child of the process that opened it, and the child must not
open the same file while it holds an inherited one (https://www.sqlite.org/howtocorrupt.html, 2.6): SQLite keeps its
locks in process memory, and a child would believe in locks that only its parent has. So before a fork all connections
are closed, and parent and child open new ones when they next need them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import suppress
from weakref import WeakSet

from flux_core.errors import StorageUnavailable
from flux_local.sqlite_faults import primary_code, translate
from flux_local.sqlite_schema import prepare

_RETRY_EVERY = 0.02


class Session:
    """One thread's connection. Its lock is held while the thread reads, and by whoever closes it from outside."""

    __slots__ = ("__weakref__", "closed", "connection", "cursor", "lock")

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take over an open connection in autocommit mode."""
        self.connection = connection
        self.cursor = connection.cursor()
        self.lock = threading.Lock()
        self.closed = False

    def close(self) -> None:
        """Close the connection; harmless when repeated."""
        self.closed = True
        with suppress(sqlite3.Error):
            self.connection.close()

    def undo(self) -> None:
        """End a transaction that was left half-way; if even that fails, close, and SQLite rolls back."""
        try:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()

    def __del__(self) -> None:
        """A thread ended: its connection ends with it."""
        self.close()


class Sessions:
    """All sessions of one store."""

    def __init__(self, path: str, synchronous: str, busy_timeout: float) -> None:
        """`path` is absolute; `synchronous` is a checked word; `busy_timeout` is in seconds. Opens nothing."""
        self.path = path
        self.synchronous = synchronous
        self.busy_timeout = busy_timeout
        self.own = threading.local()  # .session, once this thread has one
        # SQLite lets one connection write at a time, and those who wait sleep up to 100 ms between looks.
        # Threads of one process queue here instead.
        self.writing = threading.Lock()
        self._opening = threading.Lock()
        self._open: WeakSet[Session] = WeakSet()
        self._closed = False
        _living.add(self)

    def current(self) -> Session:
        """This thread's session, opened if need be."""
        session: Session | None = getattr(self.own, "session", None)
        if session is None or session.closed:
            session = self._new()
        return session

    def acquire_writing(self) -> None:
        """Take `writing`; raises `StorageUnavailable` if that lasts longer than the busy timeout."""
        if not self.writing.acquire(False) and not self.writing.acquire(timeout=self.busy_timeout):
            raise self._too_busy()

    def close(self) -> None:
        """Close every session, waiting for calls under way, and open no more."""
        self._closed = True
        self.hold()
        self.release()

    def hold(self) -> None:
        """Wait until no thread uses a connection, close them all, and let none be opened until `release`."""
        self._opening.acquire()
        self.writing.acquire()
        for session in list(self._open):
            with session.lock:
                session.close()
        self._open = WeakSet()
        self.own = threading.local()

    def release(self) -> None:
        """Let threads open new sessions."""
        self.writing.release()
        self._opening.release()

    def _new(self) -> Session:
        if not self._opening.acquire(timeout=self.busy_timeout):
            raise self._too_busy()
        try:
            if self._closed:
                raise StorageUnavailable(f"This SQLiteStorage on {self.path} was closed. Make a new one.")
            session = Session(self._connect())
            self._open.add(session)
            self.own.session = session
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        except OSError as error:
            raise StorageUnavailable(
                f"The folder of the workflow store {self.path} cannot be made ({error}). Choose another path."
            ) from error
        else:
            return session
        finally:
            self._opening.release()

    def _connect(self) -> sqlite3.Connection:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)  # noqa: PTH103, PTH120 -- importing pathlib costs more
        give_up_at = time.monotonic() + self.busy_timeout
        while True:
            connection = sqlite3.connect(
                self.path,
                timeout=self.busy_timeout,
                isolation_level=None,
                check_same_thread=False,  # `hold` closes from another thread, under the session's lock
            )
            try:
                prepare(connection, self.path)
                connection.execute(f"PRAGMA synchronous = {self.synchronous}")
            except BaseException as error:
                connection.close()
                # Turning a new file into WAL does not wait its turn when several processes try at once.
                busy = isinstance(error, sqlite3.Error) and primary_code(error) == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() >= give_up_at:
                    raise
                time.sleep(_RETRY_EVERY)
            else:
                return connection

    def _too_busy(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"The workflow store {self.path} did not answer: other threads of this process kept it busy for longer "
            f"than the busy timeout of {self.busy_timeout:g} s. Run fewer at a time, or pass a larger busy_timeout."
        )


_living: WeakSet[Sessions] = WeakSet()
_held: list[Sessions] = []


def _before_fork() -> None:
    for sessions in list(_living):
        sessions.hold()
        _held.append(sessions)


def _after_fork() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
