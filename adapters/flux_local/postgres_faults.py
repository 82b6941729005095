"""The one place where an error of PostgreSQL becomes an error of the kit. It must not touch a connection.

Codes: https://www.postgresql.org/docs/current/errcodes-appendix.html. What passes by itself or after an operator's help
is `StorageUnavailable` (the platform runs the invocation again); what no retry can mend is `CorruptRecord`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.errors import CorruptRecord, FluxError, StorageUnavailable
from flux_local.sql_storage import too_large

if TYPE_CHECKING:
    import psycopg

_ADVICE = {
    "28": "the role or its password is refused. Look at the user and password that PostgresStorage was given.",
    "3D000": "there is no database of that name. Create it, or name another one in what PostgresStorage was given.",
    "3F000": "its schema is gone. Call ensure() of the PostgresStorage once.",
    "42P01": "its tables are gone. Call ensure() of the PostgresStorage once.",
    "42501": (
        "the role may not do that. Grant it USAGE on the schema and SELECT, INSERT, UPDATE, DELETE on its tables; "
        "ensure() also needs CREATE on the database."
    ),
    "25006": "it takes no writes: a standby, or a database set to read only. Connect to the primary.",
    "53100": "its disk is full. Make room; what was acknowledged is safe.",
    "53300": "it has too many connections. Lower connections= of PostgresStorage, or put a pooler before it.",
    "53": "it ran out of something. What was acknowledged is safe.",
    "55P03": "another transaction kept a row locked. Look for one that was left open.",
    "57014": (
        "a statement took longer than the timeout. Look for a transaction that was left open, or pass a larger "
        "timeout to PostgresStorage."
    ),
    "57P": "it is being shut down or started.",
    "40": "the transaction was undone by another one.",
    "08": "the connection broke.",
}
"""By the whole code, else by how it begins."""
_DAMAGED = ("XX001", "XX002")


def translate(error: psycopg.Error, place: str) -> FluxError:
    """The kit's error for `error` of the database at `place`, to be raised from it."""
    code = error.sqlstate or ""
    told = str(error).strip().partition("\n")[0]
    if code in _DAMAGED:
        return CorruptRecord(
            f"The workflow store {place} is damaged. Restore a backup of the database. (PostgreSQL: {told})"
        )
    if code == "54000":
        return too_large(place, told)
    fitting = (_ADVICE[code[:length]] for length in (5, 3, 2) if code[:length] in _ADVICE)
    advice = next(fitting, "the call failed." if code else _without_code(told))
    return StorageUnavailable(f"The workflow store {place} did not answer: {advice} (PostgreSQL: {told})")


def _without_code(told: str) -> str:
    """Errors of the connection itself have no code, only a text."""
    if "password authentication failed" in told or "no password supplied" in told or "does not exist" in told:
        return "the role, its password or the database is refused. Look at what PostgresStorage was given."
    return "no connection, or it broke. See that the server runs and that host and port are right."
