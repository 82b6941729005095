"""The tables of `SQLiteStorage`, and how a file gets them. It must not read or write a workflow's data.

The file says whose it is (`PRAGMA application_id`) and in which form (`PRAGMA user_version`); a file of someone else or
of a later form is refused before anything in it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux_core.errors import CorruptRecord, StorageUnavailable

if TYPE_CHECKING:
    import sqlite3

VERSION = 1
APPLICATION = 0x464C5558  # "FLUX"

# `inst` is tenant/workflow/id; the names that build it cannot contain a slash (PROTOCOL, Security). The text itself is
# the key, not a number that stands for it: a number could be given again after a purge while a process remembers it.
# WITHOUT ROWID: a record dirties one tree, not two, which measured 8 % less per append.
_TABLES = """
CREATE TABLE log (
    inst TEXT NOT NULL, seq INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (inst, seq)
) WITHOUT ROWID;
CREATE TABLE header (
    inst TEXT NOT NULL PRIMARY KEY, tenant TEXT NOT NULL, workflow TEXT NOT NULL, id TEXT NOT NULL,
    status TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    epoch INTEGER NOT NULL, seq INTEGER NOT NULL, due INTEGER
) WITHOUT ROWID;
CREATE INDEX header_newest ON header (tenant, created_at, id, workflow);
CREATE INDEX header_due ON header (due) WHERE due IS NOT NULL;
CREATE TABLE mail (
    inst TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (inst, name, id)
) WITHOUT ROWID;
CREATE TABLE snap (
    inst TEXT NOT NULL PRIMARY KEY, seq INTEGER NOT NULL, state BLOB NOT NULL
) WITHOUT ROWID;
"""


def prepare(connection: sqlite3.Connection, path: str) -> None:
    """Make the file behind an autocommit `connection` a store of this version, or refuse it.

    Raises `CorruptRecord` for a file of another application or of a later version, `StorageUnavailable` where the
    file system cannot do write-ahead logging, and `sqlite3.Error` for the rest.
    """
    known = _recognise(connection, path)  # first: a file of someone else must stay as it is
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchall()[0][0]
    if mode != "wal":
        raise StorageUnavailable(
            f"The workflow store {path} cannot use a write-ahead log here (journal mode {mode!r}). "
            "Put it on a local disk, not on a network file system."
        )
    if known:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _recognise(connection, path):  # another process may have been quicker
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _recognise(connection: sqlite3.Connection, path: str) -> bool:
    """True for a store of this version, False for an empty file; refuse everything else."""
    version, application, tables = connection.execute(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_user_version, pragma_application_id"
    ).fetchall()[0]
    if application == APPLICATION and version == VERSION:
        return True
    if application == APPLICATION:
        raise CorruptRecord(
            f"The workflow store {path} has schema version {version}; this Flux knows version {VERSION}. "
            "Use the Flux that wrote it, or a later one. Nothing in it was changed."
        )
    if application or version or tables:
        raise CorruptRecord(
            f"{path} is a SQLite database of another application ({tables} tables, user_version {version}). "
            "Give Flux a file of its own. Nothing in it was changed."
        )
    return False
