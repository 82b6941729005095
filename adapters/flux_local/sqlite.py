"""`SQLiteStorage`: the store of one machine, in one file that several processes may share.

It must not know workflow rules. Reads and single writes run in autocommit; only what must change together opens a
transaction. Connections live in `sqlite_session`, tables in `sqlite_schema`, errors in `sqlite_faults`.
"""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Literal, TypeVar

from flux_core.cursor import ListKey, decode_cursor, encode_cursor
from flux_core.errors import CallerError, CorruptRecord, DefinitionError
from flux_core.ports import Due, Header, InstanceRef, Listed, Mail, Page
from flux_local.sqlite_faults import primary_code, translate
from flux_local.sqlite_session import Session, Sessions

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Sequence
    from typing import Any  # rows as the driver gives them

T = TypeVar("T")

_LEVELS = ("OFF", "NORMAL", "FULL", "EXTRA")
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)

_APPEND = "INSERT INTO log (inst, seq, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_SLOT = "SELECT record FROM log WHERE inst = ? AND seq = ?"
_TAIL = "SELECT seq, record FROM log WHERE inst = ? ORDER BY seq DESC LIMIT 1"
_READ = "SELECT seq, record FROM log WHERE inst = ? AND seq >= ? ORDER BY seq"
_PUT_HEADER = """
INSERT INTO header (inst, tenant, workflow, id, status, created_at, updated_at, epoch, seq, due)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (inst) DO UPDATE SET status = excluded.status, created_at = excluded.created_at,
    updated_at = excluded.updated_at, epoch = excluded.epoch, seq = excluded.seq, due = excluded.due
"""
_HEADER = "SELECT status, created_at, updated_at, epoch, seq, due FROM header WHERE inst = ?"
_NUDGE = "UPDATE header SET due = ? WHERE inst = ? AND epoch = ? AND (due IS NULL OR due > ?)"
_EPOCH = "SELECT epoch FROM header WHERE inst = ?"
_SETTLE = "UPDATE header SET due = ? WHERE inst = ? AND seq = ? AND due = ?"
_DUE = "SELECT tenant, workflow, id, due FROM header WHERE due <= ? ORDER BY due, inst LIMIT ?"
_PUT_MAIL = "INSERT INTO mail (inst, name, id, at, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
_ONE_MAIL = "SELECT name, id, at, body FROM mail WHERE inst = ? AND name = ? AND id = ?"
_MAIL = "SELECT name, id, at, body FROM mail WHERE inst = ? ORDER BY at, id, name"
_PUT_SNAPSHOT = """
INSERT INTO snap (inst, seq, state) VALUES (?, ?, ?)
ON CONFLICT (inst) DO UPDATE SET seq = excluded.seq, state = excluded.state WHERE excluded.seq > seq
"""
_SNAPSHOT = "SELECT seq, state FROM snap WHERE inst = ?"


class SQLiteStorage:
    """A `WorkflowStorage` in the SQLite file at `path`; its folder and tables are made when first needed.

    `synchronous` is SQLite's level: "FULL" (default) keeps every acknowledged write through a power failure; "NORMAL"
    and "OFF" keep it through the death of the process only. `busy_timeout` is in seconds: how long a call waits
    for other writers before it raises `StorageUnavailable`. Raises `DefinitionError` for arguments that cannot work.
    Any number of threads and processes may use the file; the disk must be local.
    """

    ephemeral = False

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
        self._sessions = Sessions(
            os.path.abspath(name),  # noqa: PTH100 -- importing pathlib would cost more than the rest of this module
            synchronous,
            busy_timeout,
        )

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
        finally:
            sessions.writing.release()
        # The session was closed by a fork before the statement ran, or the instance was purged after it: once more.
        sessions.current()
        return self.append(ref, seq, record)

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on, in order; `CorruptRecord` if one is missing between them."""
        rows = self._read(_READ, "/".join(ref), start)
        if rows and rows[-1][0] != start + len(rows) - 1:
            raise CorruptRecord(
                f"The log of {ref.workflow}/{ref.id} (tenant {ref.tenant}) in {self.path} has {len(rows)} records from "
                f"{start} on, but the newest is {rows[-1][0]}: some are missing. Restore the file from a backup."
            )
        return [row[1] for row in rows]

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number; None for an unknown instance."""
        rows = self._read(_TAIL, "/".join(ref))
        return (rows[0][0], rows[0][1]) if rows else None

    # --- mailbox and snapshots ---------------------------------------------------------------------------

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""
        inst = "/".join(ref)

        def put(cursor: sqlite3.Cursor) -> Mail | None:
            if cursor.execute(_PUT_MAIL, (inst, *mail)).rowcount == 1:
                return None
            found = cursor.execute(_ONE_MAIL, (inst, mail.name, mail.id)).fetchall()
            return Mail(*found[0]) if found else put(cursor)  # purged in between: once more

        return self._write(put)

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """The whole mailbox, ordered by (`at`, `id`), then by name."""
        return [Mail(*row) for row in self._read(_MAIL, "/".join(ref))]

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`, unless a newer one is kept already."""
        self._write(lambda cursor: cursor.execute(_PUT_SNAPSHOT, ("/".join(ref), seq, state)))

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        rows = self._read(_SNAPSHOT, "/".join(ref))
        return (rows[0][0], rows[0][1]) if rows else None

    # --- header and indexes ------------------------------------------------------------------------------

    def header(self, ref: InstanceRef) -> Header | None:
        """The header, `due` as the last append, nudge or settle left it; None for an unknown instance."""
        rows = self._read(_HEADER, "/".join(ref))
        return Header(*rows[0]) if rows else None

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """Make the due entry no later than `due`, if the header still has `epoch`; False if it has another."""
        inst = "/".join(ref)

        def pull(cursor: sqlite3.Cursor) -> bool:
            if cursor.execute(_NUDGE, (due, inst, epoch, due)).rowcount == 1:
                return True
            return cursor.execute(_EPOCH, (inst,)).fetchall() == [(epoch,)]

        return self._write(pull)

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """Replace exactly the entry `due`, if the header is still the one of record `seq`; else False, no change."""
        return self._write(lambda cursor: cursor.execute(_SETTLE, (then, "/".join(ref), seq, due)).rowcount == 1)

    def due(self, until: int, limit: int) -> list[Due]:
        """Up to `limit` entries of all tenants with `due <= until`, earliest first."""
        rows = self._read(_DUE, until, max(limit, 0))
        return [Due(InstanceRef(*row[:3]), row[3]) for row in rows]

    def list(
        self,
        tenant: str,
        workflow: str | None = None,
        statuses: Sequence[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page:
        """One page of the tenant's instances, newest first.

        Raises `CallerError` for a cursor that this listing did not give out, or a limit below 1.
        """
        if limit < 1:
            raise CallerError(f"A page needs a limit of at least 1, not {limit}.")
        where, values = ["tenant = ?"], [tenant]
        if workflow is not None:
            where.append("workflow = ?")
            values.append(workflow)
        if statuses is not None:
            where.append(f"status IN ({', '.join('?' for _ in statuses)})")
            values.extend(statuses)
        after: tuple[str | int, ...] = ()
        if cursor is not None:
            where.append("(created_at, id, workflow) < (?, ?, ?)")
            after = decode_cursor(tenant, cursor)
        rows = self._read(
            "SELECT workflow, id, status, created_at, updated_at, epoch, seq, due FROM header"  # noqa: S608 -- no value
            f" WHERE {' AND '.join(where)} ORDER BY created_at DESC, id DESC, workflow DESC LIMIT ?",
            *values,
            *after,
            limit + 1,
        )
        items = [Listed(InstanceRef(tenant, row[0], row[1]), Header(*row[2:])) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items, None)
        ref, header = items[-1]
        return Page(items, encode_cursor(tenant, ListKey(header.created_at, ref.id, ref.workflow)))

    # --- life cycle --------------------------------------------------------------------------------------

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`; False, nothing removed, if it is not."""
        inst = "/".join(ref)

        def remove(cursor: sqlite3.Cursor) -> bool:
            cursor.execute("BEGIN IMMEDIATE")
            newest = cursor.execute(_TAIL, (inst,)).fetchall()
            as_told = bool(newest) and newest[0][0] == seq
            if as_told:
                for table in ("header", "mail", "snap", "log"):
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

        def put(cursor: sqlite3.Cursor) -> bytes | None:
            cursor.execute("BEGIN IMMEDIATE")
            found: bytes | None = None
            if cursor.execute(_APPEND, (inst, seq, record)).rowcount == 1:
                cursor.execute(_PUT_HEADER, (inst, *ref, *header))
            else:
                found = cursor.execute(_SLOT, (inst, seq)).fetchall()[0][0]
            cursor.execute("COMMIT")
            return found

        return self._write(put)

    def _write(self, work: Callable[[sqlite3.Cursor], T]) -> T:
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
            finally:
                if not session.closed and session.connection.in_transaction:
                    session.undo()
                sessions.writing.release()

    def _read(self, query: str, *values: str | int) -> builtins.list[tuple[Any, ...]]:
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

    def _fault(self, session: Session, error: sqlite3.Error) -> Exception:
        """The kit's error for `error`. What does not pass by itself also costs the connection: the next is fresh."""
        session.undo()
        if primary_code(error) not in _PASSING:
            session.close()
        return translate(error, self.path)
