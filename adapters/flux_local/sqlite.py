"""`SQLiteStorage`: the store of one machine, in one file that several processes may share.

It must not know workflow rules. Reads and single writes run in autocommit; only what must change together opens a
transaction. Connections live in `sqlite_session`, tables in `sqlite_schema`, errors in `sqlite_faults`.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Literal, TypeVar

from flux_core.errors import DefinitionError
from flux_local.sql_storage import HEADER_COLUMNS, REPLACE_HEADER, TABLES, Cursor, SqlStorage, Statements, too_large
from flux_local.sqlite_faults import primary_code, translate
from flux_local.sqlite_session import Session, Sessions

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any  # rows as the driver gives them

    from flux_core.ports import Header, InstanceRef

T = TypeVar("T")

_LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_TOOBIG)

_SQL = Statements().of("")
_APPEND = _SQL.append
_SLOT = _SQL.slot
_PUT_HEADER = f"INSERT INTO header ({HEADER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) {REPLACE_HEADER}"  # noqa: S608 -- names


class SQLiteStorage(SqlStorage):
    """A `WorkflowStorage` in the SQLite file at `path`; its folder and tables are made when first needed.

    `synchronous` is SQLite's level: "FULL" (default) keeps every acknowledged write through a power failure; "NORMAL"
    and "OFF" keep it through the death of the process only. `busy_timeout` is in seconds: how long a call waits
    for other writers before it raises `StorageUnavailable`. Raises `DefinitionError` for arguments that cannot work.
    Any number of threads and processes may use the file; the disk must be local.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        synchronous: Literal["OFF", "NORMAL", "FULL", "EXTRA"] = "FULL",
        busy_timeout: float = 30.0,
    ) -> None:
        """Check the arguments; the file is opened by the first call."""
        name = os.fspath(path)
        if not name or name == ":memory:" or name.startswith("file:"):
            raise DefinitionError(
                f"SQLiteStorage needs the path of a file, not {name!r}. "
                "For a store that is lost with the process use flux_core.MemoryStorage()."
            )
        if synchronous not in _LEVELS:
            raise DefinitionError(f"synchronous must be one of {', '.join(_LEVELS)}, not {synchronous!r}.")
        if not busy_timeout > 0:
            raise DefinitionError(f"busy_timeout must be a positive number of seconds, not {busy_timeout!r}.")
        path = os.path.abspath(name)  # noqa: PTH100 -- importing pathlib would cost more than the rest of this module
        super().__init__(path)
        self._sessions = Sessions(path, synchronous, busy_timeout)

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return self._sessions.path

    # --- the log ---------------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else the bytes found."""
        if header is not None:
            return self._append_with_header(ref, seq, record, header)
        # The way of every step: one statement, one commit. It repeats `_write` by hand to spare its calls.
        sessions = self._sessions
        try:
            session: Session = sessions.own.session
        except AttributeError:
            session = sessions.current()
        if not sessions.writing.acquire(False):
            sessions.acquire_writing()
        try:
            cursor = session.cursor
            cursor.execute(_APPEND, ("/".join(ref), seq, record))
            if cursor.rowcount == 1:
                return None
            if found := cursor.execute(_SLOT, ("/".join(ref), seq)).fetchall():
                slot: bytes = found[0][0]
                return slot
        except sqlite3.Error as error:
            if not session.closed:
                raise self._fault(session, error) from error
        except OverflowError as error:
            self._refuse_too_long(error)
            raise
        finally:
            sessions.writing.release()
        # The session was closed by a fork before the statement ran, or the instance was purged after it: once more.
        sessions.current()
        return self.append(ref, seq, record)

    # --- life cycle --------------------------------------------------------------------------------------

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`; False, nothing removed, if it is not."""
        inst = "/".join(ref)

        def remove(cursor: Cursor) -> bool:
            cursor.execute("BEGIN IMMEDIATE")
            newest = cursor.execute(_SQL.tail, (inst,)).fetchall()
            as_told = bool(newest) and newest[0][0] == seq
            if as_told:
                for table in TABLES:
                    cursor.execute(f"DELETE FROM {table} WHERE inst = ?", (inst,))  # noqa: S608 -- names from above
            cursor.execute("COMMIT")
            return as_told

        return self._write(remove)

    def ensure(self) -> None:
        """Create the file and its tables if they are absent."""
        self._sessions.current()

    def close(self) -> None:
        """Close the connections of all threads, waiting for calls under way; later calls raise `StorageUnavailable`."""
        self._sessions.close()

    # --- inside ------------------------------------------------------------------------------------------

    def _append_with_header(self, ref: InstanceRef, seq: int, record: bytes, header: Header) -> bytes | None:
        inst = "/".join(ref)

        def put(cursor: Cursor) -> bytes | None:
            cursor.execute("BEGIN IMMEDIATE")
            found: bytes | None = None
            if cursor.execute(_APPEND, (inst, seq, record)).rowcount == 1:
                cursor.execute(_PUT_HEADER, (inst, *ref, *header))
            else:
                found = cursor.execute(_SLOT, (inst, seq)).fetchall()[0][0]
            cursor.execute("COMMIT")
            return found

        return self._write(put)

    def _write(self, work: Callable[[Cursor], T]) -> T:
        """Run `work`, one writer of this process at a time; what it leaves half-way is undone."""
        sessions = self._sessions
        while True:
            session = sessions.current()
            sessions.acquire_writing()
            try:
                if not session.closed:  # a fork may have come between
                    return work(session.cursor)
            except sqlite3.Error as error:
                raise self._fault(session, error) from error
            except OverflowError as error:
                self._refuse_too_long(error)
                raise
            finally:
                if not session.closed and session.connection.in_transaction:
                    session.undo()
                sessions.writing.release()

    def _read(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        """All rows of one SELECT. Fetched to the end, since an open cursor would keep the log file from shrinking."""
        while True:
            session = self._sessions.current()
            with session.lock:
                if session.closed:  # a fork came between
                    continue
                try:
                    return session.cursor.execute(query, values).fetchall()
                except sqlite3.Error as error:
                    raise self._fault(session, error) from error

    def _refuse_too_long(self, error: OverflowError) -> None:
        """What the driver says of 2 GiB and more before SQLite is asked; of a number it says something else."""
        if "BLOB" in str(error):
            raise too_large(self._place, error) from error

    def _fault(self, session: Session, error: sqlite3.Error) -> Exception:
        """The kit's error for `error`. What does not pass by itself also costs the connection: the next is fresh."""
        session.undo()
        if primary_code(error) not in _PASSING:
            session.close()
        return translate(error, self.path)
