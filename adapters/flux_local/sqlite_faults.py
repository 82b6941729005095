"""The one place where an error of SQLite becomes an error of the kit. It must not touch a connection.

Codes: https://www.sqlite.org/rescode.html. What passes by itself or after an operator's help is
`StorageUnavailable` (the platform runs the invocation again); what no retry can mend is `CorruptRecord`.
"""

from __future__ import annotations

import sqlite3

from flux_core.errors import CorruptRecord, FluxError, StorageUnavailable
from flux_local.sql_storage import too_large

_ADVICE = {
    sqlite3.SQLITE_BUSY: (
        "another connection kept it locked for longer than the busy timeout. Look for a transaction that was left "
        "open (a database browser, a backup), or pass a larger busy_timeout to SQLiteStorage."
    ),
    sqlite3.SQLITE_FULL: (
        "the disk, its quota or the database's page limit is full. Make room; what was acknowledged is safe."
    ),
    sqlite3.SQLITE_IOERR: "the disk failed to read or write. Check the file system and its free space.",
    sqlite3.SQLITE_READONLY: "it cannot be written. Check the permissions of the file and of its folder.",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened. Check that the folder can be written and the path is not a folder.",
    sqlite3.SQLITE_PERM: "access is denied. Check the permissions of the file and of its folder.",
    sqlite3.SQLITE_NOMEM: "SQLite ran out of memory.",
}
_ADVICE[sqlite3.SQLITE_LOCKED] = _ADVICE[sqlite3.SQLITE_PROTOCOL] = _ADVICE[sqlite3.SQLITE_BUSY]

_DAMAGED = {
    sqlite3.SQLITE_CORRUPT: (
        "is damaged. Stop every process that uses it, keep a copy of it with its -wal file, and restore a backup or "
        "try `sqlite3 FILE .recover`."
    ),
    sqlite3.SQLITE_NOTADB: "is not a SQLite database. Choose another path; nothing in it was changed.",
}


def primary_code(error: sqlite3.Error) -> int | None:
    """The primary result code of `error`; None if SQLite itself did not raise it (a closed connection, a bad value)."""
    extended = getattr(error, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def translate(error: sqlite3.Error, path: str) -> FluxError:
    """The kit's error for `error` on the database at `path`, to be raised from it."""
    code = primary_code(error)
    if code == sqlite3.SQLITE_TOOBIG:
        return too_large(path, error)
    if code in _DAMAGED:
        return CorruptRecord(f"The workflow store {path} {_DAMAGED[code]} (SQLite: {error})")
    advice = _ADVICE.get(code, "the call failed.") if code is not None else "the call failed."
    return StorageUnavailable(f"The workflow store {path} did not answer: {advice} (SQLite: {error})")
