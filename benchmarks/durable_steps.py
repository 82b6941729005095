"""A durable step of the whole engine on SQLite, against the bare write of the same bytes.

In one process, on files of one folder: a bare `INSERT ... ON CONFLICT DO NOTHING` in autocommit, to a table of the same
form at the same `synchronous`.
"""

from __future__ import annotations

import sqlite3
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import paired
from flux_local import SQLiteStorage

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from benchmarks.figure import Figure
    from benchmarks.paired import Rows

TOPIC = "durable step on SQLite"
TARGET = 1.15

_TABLE = (
    "CREATE TABLE log (inst TEXT NOT NULL, seq INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (inst, seq)) "
    "WITHOUT ROWID"
)
_INSERT = "INSERT INTO log (inst, seq, record) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_READ = "SELECT inst, seq, record FROM log WHERE seq >= ? ORDER BY seq"


class _Bare:
    """The write that no durable engine can do without."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")
        self.connection.execute(_TABLE)

    def write(self, rows: Rows) -> float:
        """Seconds for one commit a row."""
        execute = self.connection.cursor().execute
        begun = perf_counter()
        for row in rows:
            execute(_INSERT, row)
        return perf_counter() - begun


def measure(folder: Path, blocks: int) -> list[Figure]:
    """`blocks` pairs at FULL and at OFF, in files under `folder`."""
    return [*_level(folder, "FULL", blocks, TARGET), *_level(folder, "OFF", blocks, None)]


def _level(folder: Path, level: Literal["FULL", "OFF"], blocks: int, target: float | None) -> list[Figure]:
    place = folder / level.lower()
    place.mkdir()
    bare, again = _Bare(place / "bare.db", level), _Bare(place / "again.db", level)
    reader = sqlite3.connect(place / "engine.db", isolation_level=None)
    storage = SQLiteStorage(place / "engine.db", synchronous=level)
    try:
        return paired.measure(
            storage,
            lambda start: reader.execute(_READ, (start,)).fetchall(),
            bare.write,
            again.write,
            blocks,
            topic=TOPIC,
            prefix=f"synchronous={level}, ",
            target=target,
        )
    finally:
        storage.close()
        for connection in (bare.connection, again.connection, reader):
            connection.close()
