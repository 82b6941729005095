"""A durable step of the whole engine on SQLite, against the bare write of the same bytes.

Small blocks in turn, in one process, on two files of one folder: a handler of the running workflow ends the engine's
block, and then writes the records that the engine has just written once more, with a bare
`INSERT ... ON CONFLICT DO NOTHING` in autocommit, to a table of the same form at the same `synchronous`. A third file
gets them a second time: what two runs of the very same thing differ by is the noise of the method.
"""

from __future__ import annotations

import sqlite3
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, Samples
from flux_core import Context, FluxEngine, create_workflow
from flux_local import SQLiteStorage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Literal

TOPIC = "durable step on SQLite"
TARGET = 1.15
BLOCK = 20
"""Steps a block: short enough that both sides of a pair see the same machine."""

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

    def write(self, rows: Sequence[tuple[str, int, bytes]]) -> float:
        """Seconds for one commit a row."""
        execute = self.connection.cursor().execute
        begun = perf_counter()
        for row in rows:
            execute(_INSERT, row)
        return perf_counter() - begun


class _Pairs:
    """What the handlers of the measured workflow do at the end of each block."""

    def __init__(self, folder: Path, synchronous: str) -> None:
        self._bare = _Bare(folder / "bare.db", synchronous)
        self._again = _Bare(folder / "again.db", synchronous)
        self._reader = sqlite3.connect(folder / "engine.db", isolation_level=None)
        self._begun = 0.0
        self._next = 0
        self._flip = False
        self.engine: list[float] = []
        self.bare: list[float] = []
        self.again: list[float] = []
        self.sizes: list[int] = []

    def end_block(self) -> None:
        """Take the engine's time since the last block, and do the bare writes of the same records."""
        now = perf_counter()
        rows = self._reader.execute(_READ, (self._next,)).fetchall()
        if self._next:
            assert len(rows) == BLOCK, f"{len(rows)} records in a block of {BLOCK} steps"
            pair = (self._bare, self.bare), (self._again, self.again)
            self._flip = not self._flip
            for bare, times in pair if self._flip else pair[::-1]:
                times.append(bare.write(rows))
            self.engine.append(now - self._begun)
            self.sizes += [len(row[2]) for row in rows]
        else:
            self._bare.write(rows)
            self._again.write(rows)
        self._next += len(rows)
        self._begun = perf_counter()

    def close(self) -> None:
        """Close the three connections."""
        for connection in (self._bare.connection, self._again.connection, self._reader):
            connection.close()


def measure(folder: Path, blocks: int) -> list[Figure]:
    """`blocks` pairs at FULL and at OFF, in files under `folder`."""
    return [*_level(folder, "FULL", blocks, TARGET), *_level(folder, "OFF", blocks, None)]


def _level(folder: Path, level: Literal["FULL", "OFF"], blocks: int, target: float | None) -> list[Figure]:
    place = folder / level.lower()
    place.mkdir()
    pairs = _Pairs(place, level)

    def step(ctx: Context) -> object:
        if ctx.current_step % BLOCK == 0:
            pairs.end_block()
        ctx.data["attempts"] = ctx.current_step
        return {"ok": True, "charge": "ch_00017", "amount": 4250}

    builder = create_workflow("benchmark", version="1")
    for number in range(BLOCK * (blocks + 1) + 1):
        builder.step(f"step-{number}", step)
    storage = SQLiteStorage(place / "engine.db", synchronous=level)
    try:
        result = FluxEngine(storage, lease=3600).execute(builder, {"order": 1})
        assert result.status == "completed", result.error
    finally:
        storage.close()
        pairs.close()

    def figure(name: str, unit: str, values: list[float], aim: float | None = None) -> Figure:
        return Figure.of(TOPIC, f"synchronous={level}, {name}", unit, Samples.of(values), aim)

    def over(these: list[float], those: list[float]) -> list[float]:
        return [one / other for one, other in zip(these, those, strict=True)]

    def each(values: list[float]) -> list[float]:
        return [value / BLOCK * 1e6 for value in values]

    return [
        figure("engine", "µs/step", each(pairs.engine)),
        figure("bare write", "µs/step", each(pairs.bare)),
        figure("engine over bare write, paired blocks", "ratio", over(pairs.engine, pairs.bare), target),
        figure("bare write over itself (noise)", "ratio", over(pairs.again, pairs.bare)),
        figure("bytes a record", "B", [float(size) for size in pairs.sizes]),
    ]
