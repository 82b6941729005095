"""A durable step of the whole engine on PostgreSQL, against the bare write of the same bytes by the same driver.

A server of its own on this machine, with the settings that production has (`fsync` and `synchronous_commit` on); a bare
`INSERT ... ON CONFLICT DO NOTHING` in autocommit on a connection of psycopg, prepared like the store's.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import paired
from flux_local import PostgresStorage
from tests.services.postgres import running

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from benchmarks.figure import Figure
    from benchmarks.paired import Rows

TOPIC = "durable step on PostgreSQL"
TARGET = 1.10

_READ = "SELECT inst, seq, record FROM flux.log WHERE seq >= %s ORDER BY seq"


class _Bare:
    """The write that no durable engine can do without."""

    def __init__(self, url: str, name: str) -> None:
        import psycopg

        self.connection: psycopg.Connection = psycopg.connect(url, autocommit=True)
        self.connection.execute(
            f'CREATE TABLE {name} (inst text COLLATE "C" NOT NULL, seq bigint NOT NULL, record bytea NOT NULL, '
            f"PRIMARY KEY (inst, seq))".encode()
        )
        insert = f"INSERT INTO {name} (inst, seq, record) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"  # noqa: S608 -- ours
        self._insert = insert.encode()

    def write(self, rows: Rows) -> float:
        """Seconds for one commit a row."""
        execute, insert = self.connection.cursor().execute, self._insert
        begun = perf_counter()
        for row in rows:
            execute(insert, row)
        return perf_counter() - begun


def measure(_folder: Path, blocks: int) -> list[Figure]:
    """`blocks` pairs, on a server of its own."""
    with running(durable=True) as server:
        storage = PostgresStorage(server.url, timeout=60)
        storage.ensure()
        bare, again = _Bare(server.url, "bare"), _Bare(server.url, "again")
        try:
            return paired.measure(
                storage,
                lambda start: bare.connection.execute(_READ, (start,)).fetchall(),
                bare.write,
                again.write,
                blocks,
                topic=TOPIC,
                target=TARGET,
            )
        finally:
            storage.close()
            bare.connection.close()
            again.connection.close()
