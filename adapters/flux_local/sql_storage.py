"""`SqlStorage`: what `SQLiteStorage` and `PostgresStorage` have in common, which is nearly all they ask a database for.

The tables are the same (PROTOCOL, Layouts) and so are the statements, but for the schema before a table's name. It must
not know a driver, nor where a transaction begins: that is the business of the two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from flux_core.cursor import ListKey, decode_cursor, encode_cursor
from flux_core.errors import CallerError, CorruptRecord, PayloadTooLarge
from flux_core.ports import Due, Header, InstanceRef, Listed, Mail, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any  # rows as the driver gives them

T = TypeVar("T")

TABLES = ("header", "mail", "snap", "log")
"""In the order in which an instance is removed."""


class Statements(NamedTuple):
    """All that both are asked. `?` stands for a value, `{}` for what comes before a table's name."""

    append: str = "INSERT INTO {}log (inst, seq, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
    slot: str = "SELECT record FROM {}log WHERE inst = ? AND seq = ?"
    tail: str = "SELECT seq, record FROM {}log WHERE inst = ? ORDER BY seq DESC LIMIT 1"
    read: str = "SELECT seq, record FROM {}log WHERE inst = ? AND seq >= ? ORDER BY seq"
    header: str = "SELECT status, created_at, updated_at, epoch, seq, due FROM {}header WHERE inst = ?"
    nudge: str = "UPDATE {}header SET due = ? WHERE inst = ? AND epoch = ? AND (due IS NULL OR due > ?)"
    epoch: str = "SELECT epoch FROM {}header WHERE inst = ?"
    settle: str = "UPDATE {}header SET due = ? WHERE inst = ? AND seq = ? AND due = ?"
    due: str = "SELECT tenant, workflow, id, due FROM {}header WHERE due <= ? ORDER BY due, inst LIMIT ?"
    put_mail: str = "INSERT INTO {}mail (inst, name, id, at, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    one_mail: str = "SELECT name, id, at, body FROM {}mail WHERE inst = ? AND name = ? AND id = ?"
    mail: str = "SELECT name, id, at, body FROM {}mail WHERE inst = ? ORDER BY at, id, name"
    put_snapshot: str = (
        "INSERT INTO {}snap AS kept (inst, seq, state) VALUES (?, ?, ?)"
        " ON CONFLICT (inst) DO UPDATE SET seq = excluded.seq, state = excluded.state WHERE excluded.seq > kept.seq"
    )
    snapshot: str = "SELECT seq, state FROM {}snap WHERE inst = ?"
    list: str = "SELECT workflow, id, status, created_at, updated_at, epoch, seq, due FROM {}header WHERE "

    def of(self, schema: str) -> Statements:
        """The same on the tables of `schema`, which ends with a point, or is empty."""
        return Statements(*(text.replace("{}", schema) for text in self))


HEADER_COLUMNS = "inst, tenant, workflow, id, status, created_at, updated_at, epoch, seq, due"
REPLACE_HEADER = (
    "ON CONFLICT (inst) DO UPDATE SET status = excluded.status, created_at = excluded.created_at,"
    " updated_at = excluded.updated_at, epoch = excluded.epoch, seq = excluded.seq, due = excluded.due"
)


class Cursor(Protocol):
    """What both drivers have."""

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Cursor:
        """Run one statement."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """The rows that it gave."""


class SqlStorage(ABC):
    """The part of a `WorkflowStorage` that is the same on both databases."""

    ephemeral = False

    def __init__(self, place: str, schema: str = "") -> None:
        """`place` is what messages call the store; `schema` as for `Statements.of`."""
        self._place = place
        self._sql = Statements().of(schema)

    # --- what the two do their own way -----------------------------------------------------------------------

    @abstractmethod
    def _read(self, query: str, *values: str | int) -> list[tuple[Any, ...]]:
        """All rows of one SELECT."""

    @abstractmethod
    def _write(self, work: Callable[[Cursor], T]) -> T:
        """Run `work` in autocommit; a transaction that it leaves open is undone."""

    # --- the log ---------------------------------------------------------------------------------------

    def read(self, ref: InstanceRef, start: int = 0) -> list[bytes]:
        """All records from `start` on, in order; `CorruptRecord` if one is missing between them."""
        rows = self._read(self._sql.read, "/".join(ref), start)
        if rows and rows[-1][0] != start + len(rows) - 1:
            raise CorruptRecord(
                f"The log of {ref.workflow}/{ref.id} (tenant {ref.tenant}) in {self._place} has {len(rows)} records "
                f"from {start} on, but the newest is {rows[-1][0]}: some are missing. Restore it from a backup."
            )
        return [row[1] for row in rows]

    def tail(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest record with its sequence number; None for an unknown instance."""
        rows = self._read(self._sql.tail, "/".join(ref))
        return (rows[0][0], rows[0][1]) if rows else None

    # --- mailbox and snapshots ---------------------------------------------------------------------------

    def put_mail(self, ref: InstanceRef, mail: Mail) -> Mail | None:
        """Put mail unless its (name, id) is taken: None if written, else the mail found."""
        inst, sql = "/".join(ref), self._sql

        def put(cursor: Cursor) -> Mail | None:
            if cursor.execute(sql.put_mail, (inst, *mail)).rowcount == 1:
                return None
            found = cursor.execute(sql.one_mail, (inst, mail.name, mail.id)).fetchall()
            return Mail(*found[0]) if found else put(cursor)  # purged in between: once more

        return self._write(put)

    def mail(self, ref: InstanceRef) -> list[Mail]:
        """The whole mailbox, ordered by (`at`, `id`), then by name."""
        return [Mail(*row) for row in self._read(self._sql.mail, "/".join(ref))]

    def put_snapshot(self, ref: InstanceRef, seq: int, state: bytes) -> None:
        """Keep a snapshot of the state after record `seq`, unless a newer one is kept already."""
        self._write(lambda cursor: cursor.execute(self._sql.put_snapshot, ("/".join(ref), seq, state)))

    def snapshot(self, ref: InstanceRef) -> tuple[int, bytes] | None:
        """The newest snapshot with its sequence number."""
        rows = self._read(self._sql.snapshot, "/".join(ref))
        return (rows[0][0], rows[0][1]) if rows else None

    # --- header and indexes ------------------------------------------------------------------------------

    def header(self, ref: InstanceRef) -> Header | None:
        """The header, `due` as the last append, nudge or settle left it; None for an unknown instance."""
        rows = self._read(self._sql.header, "/".join(ref))
        return Header(*rows[0]) if rows else None

    def nudge(self, ref: InstanceRef, epoch: int, due: int) -> bool:
        """Make the due entry no later than `due`, if the header still has `epoch`; False if it has another."""
        inst = "/".join(ref)

        def pull(cursor: Cursor) -> bool:
            if cursor.execute(self._sql.nudge, (due, inst, epoch, due)).rowcount == 1:
                return True
            return cursor.execute(self._sql.epoch, (inst,)).fetchall() == [(epoch,)]

        return self._write(pull)

    def settle(self, ref: InstanceRef, seq: int, due: int, then: int | None) -> bool:
        """Replace exactly the entry `due`, if the header is still the one of record `seq`; else False, no change."""
        values = then, "/".join(ref), seq, due
        return self._write(lambda cursor: cursor.execute(self._sql.settle, values).rowcount == 1)

    def due(self, until: int, limit: int) -> list[Due]:
        """Up to `limit` entries of all tenants with `due <= until`, earliest first."""
        rows = self._read(self._sql.due, until, max(limit, 0))
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
            where.append(f"status IN ({', '.join('?' for _ in statuses)})" if statuses else "1 = 0")
            values.extend(statuses)
        after: tuple[str | int, ...] = ()
        if cursor is not None:
            where.append("(created_at, id, workflow) < (?, ?, ?)")
            after = decode_cursor(tenant, cursor)
        order = " ORDER BY created_at DESC, id DESC, workflow DESC LIMIT ?"
        rows = self._read(self._sql.list + " AND ".join(where) + order, *values, *after, limit + 1)
        items = [Listed(InstanceRef(tenant, row[0], row[1]), Header(*row[2:])) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items, None)
        ref, header = items[-1]
        return Page(items, encode_cursor(tenant, ListKey(header.created_at, ref.id, ref.workflow)))


def too_large(place: str, error: object) -> PayloadTooLarge:
    """What is written above the size that a database takes for one value; `error` is how it says so."""
    return PayloadTooLarge(
        f"The workflow store {place} does not take a value of that size ({error}). Pass payloads= to FluxEngine, and "
        f"large values are kept in a payload store: FluxEngine(..., payloads=FolderPayloads(...)) on one machine."
    )
