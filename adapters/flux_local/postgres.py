"""`PostgresStorage`: instances in a PostgreSQL database, which any number of machines may share.

It must not know workflow rules. What can be one statement is one, and every statement commits by itself.
Connections live in `postgres_session`, tables in `postgres_schema`, errors in `postgres_faults`.
"""

from __future__ import annotations

from _thread import allocate_lock
from typing import TYPE_CHECKING, TypeVar

from flux_core.deadline import MARGIN
from flux_core.errors import DefinitionError
from flux_local.postgres_schema import checked_name, make
from flux_local.sql_storage import HEADER_COLUMNS, REPLACE_HEADER, TABLES, Cursor, SqlStorage, too_large

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable
    from typing import Any  # rows as the driver gives them

    from flux_core.ports import Header, InstanceRef, Mail
    from flux_local.postgres_session import Sessions

T = TypeVar("T")

_MOST = 2**30 - 2**16
"""Bytes: PostgreSQL takes no value of 1 GiB."""

# Record and header in one statement, so in one commit and one round trip.
_APPEND_WITH_HEADER = f"""
WITH put AS (
    INSERT INTO {{}}log (inst, seq, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING inst
)
INSERT INTO {{}}header ({HEADER_COLUMNS})
SELECT inst, ?::text, ?::text, ?::text, ?::text, ?::bigint, ?::bigint, ?::bigint, ?::bigint, ?::bigint FROM put
{REPLACE_HEADER}
"""  # noqa: S608 -- names


class PostgresStorage(SqlStorage):
    """A `WorkflowStorage` in the PostgreSQL database that `conninfo` names (a URL, or `host=... dbname=...`).

    The tables are in a schema of their own, made by `ensure()`. No call takes longer than `timeout` seconds (the margin
    that the engine keeps before a deadline), but for a connection that has to be made first (2 seconds at least).
    `connections`: at most as many at a time, for all threads of the process. `prepared=False` behind a pooler that
    gives each transaction another connection. Raises `DefinitionError` for arguments that cannot work, and if psycopg
    is not installed.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        schema: str = "flux",
        timeout: float = MARGIN,
        connections: int = 8,
        prepared: bool = True,
    ) -> None:
        """Check the arguments; the first call imports the driver and connects."""
        if not conninfo.strip():
            message = 'PostgresStorage needs a connection string, such as "postgresql://host/database".'
            raise DefinitionError(message)
        if not timeout > 0:
            message = f"timeout must be a positive number of seconds, not {timeout!r}"
            raise DefinitionError(message)
        if type(connections) is not int or connections < 1:
            message = f"connections must be a whole number from 1 on, not {connections!r}"
            raise DefinitionError(message)
        prefix = f'"{checked_name(schema)}".'
        super().__init__("PostgreSQL", prefix)
        self._append_with_header_sql = _APPEND_WITH_HEADER.replace("{}", prefix)
        self._prefix = prefix
        self._settings = conninfo, schema, timeout, connections
        self._prepared = prepared
        self._opened: Sessions | None = None
        self._opening = allocate_lock()

    # --- the log ---------------------------------------------------------------------------------------

    def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
        """Put `record` at `seq` unless the slot is taken: None if written, else the bytes found."""
        self._check_size(record)
        inst, sql = "/".join(ref), self._sql
        statement = sql.append if header is None else self._append_with_header_sql
        values = (inst, seq, record) if header is None else (inst, seq, record, *ref, *header)

        # The way of every step. It repeats `_write` by hand to spare its calls.
        sessions = self._opened or self._sessions()
        session = sessions.take()
        found: bytes | None = None
        try:
            while session.execute(statement, values).rowcount != 1:
                if rows := session.execute(sql.slot, (inst, seq)).fetchall():
                    found = rows[0][0]
                    break
                # It was purged in between: once more.
        except BaseException as error:
            sessions.discard(session)
            if isinstance(error, sessions.driver_error):
                raise sessions.fault(error) from error
            raise
        sessions.give_back(session)
        return found

    # --- mailbox and snapshots ---------------------------------------------------------------------------

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""
        self._check_size(mail.body)
        return super().put_mail(ref, mail)

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`, unless a newer one is kept already."""
        self._check_size(state)
        super().put_snapshot(ref, seq, state)

    # --- life cycle --------------------------------------------------------------------------------------

    def purge(self, ref: InstanceRef, seq: int) -> bool:
        """Remove all of an instance whose newest record is `seq`; False, nothing removed, if it is not.

        It takes the next slot itself first, so nobody can append between its look and its removing.
        """
        inst = "/".join(ref)

        def remove(cursor: Cursor) -> bool:
            cursor.execute("BEGIN")
            alone = cursor.execute(self._sql.append, (inst, seq + 1, b"")).rowcount == 1
            as_told = alone and bool(cursor.execute(self._sql.slot, (inst, seq)).fetchall())
            if as_told:
                for table in TABLES:
                    cursor.execute(f"DELETE FROM {self._prefix}{table} WHERE inst = ?", (inst,))  # noqa: S608 -- names
            cursor.execute("COMMIT" if as_told else "ROLLBACK")
            return as_told

        return self._write(remove)

    def ensure(self) -> None:
        """Create the schema and its tables if they are absent; any number of processes may do it at once."""
        sessions = self._sessions()

        def create(cursor: Cursor) -> None:
            cursor.execute("BEGIN")
            make(cursor, sessions.schema, sessions.place)
            cursor.execute("COMMIT")

        self._write(create, unchecked=True)

    def close(self) -> None:
        """Close the connections; later calls raise `StorageUnavailable`."""
        self._sessions().close()

    # --- inside ------------------------------------------------------------------------------------------

    def _write(self, work: Callable[[Cursor], T], *, unchecked: bool = False) -> T:
        """Run `work` on a connection; what it leaves half-way is undone, by closing the connection."""
        sessions = self._opened or self._sessions()
        session = sessions.take(unchecked=unchecked)
        try:
            result = work(session)
        except BaseException as error:
            sessions.discard(session)
            if isinstance(error, sessions.driver_error):
                raise sessions.fault(error) from error
            raise
        sessions.give_back(session)
        return result

    def _read(self, query: str, *values: str | int) -> builtins.list[tuple[Any, ...]]:
        return self._write(lambda cursor: cursor.execute(query, values).fetchall())

    def _check_size(self, data: bytes) -> None:
        if len(data) > _MOST:
            raise too_large(self._place, f"{len(data)} bytes; PostgreSQL takes less than 1 GiB")

    def _sessions(self) -> Sessions:
        with self._opening:
            if self._opened is None:
                try:
                    from flux_local.postgres_session import Sessions
                except ImportError as error:
                    message = (
                        f"PostgresStorage needs the driver psycopg ({error}). Run pip install '.[postgres]' in the "
                        f"checkout that Flux came from."
                    )
                    raise DefinitionError(message) from error
                opened = Sessions(*self._settings, prepared=self._prepared)
                self._place = opened.place
                self._opened = opened
            return self._opened
