"""A durable step of the whole engine on DynamoDB, against the bare conditional PutItem of the same bytes.

The server is moto, a process of its own; both sides use the same client, so connections, signatures and the SDK's own
work are the same. The bare records go into partitions of their own (`paired` has the method). Real DynamoDB takes some
milliseconds for a write, as moto does; what is measured is what the engine and the store add to it.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING

from benchmarks import paired
from tests.services.moto import ENVIRONMENT, start

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.figure import Figure
    from benchmarks.paired import Rows
    from flux_core import InstanceRef
    from flux_core.ports import Header

TOPIC = "durable step on DynamoDB"
TARGET = 1.10
BLOCK = 10


def measure(_folder: Path, blocks: int) -> list[Figure]:
    """`blocks` pairs on a server that is started and ended here."""
    os.environ.update(ENVIRONMENT)
    process, server = start()
    with process:
        try:
            return _figures(server.endpoint, blocks)
        finally:
            process.kill()


def _figures(endpoint: str, blocks: int) -> list[Figure]:
    from flux_aws import DynamoDBStorage

    written: list[tuple[str, int, bytes]] = []

    class Watched(DynamoDBStorage):
        """Remembers what the engine wrote; that is a list's append, beside a request."""

        def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
            written.append((ref.id, seq, record))
            return super().append(ref, seq, record, header)

    storage = Watched("benchmark", endpoint=endpoint, call_timeout=60)
    storage.ensure()
    put, table = storage.client.put_item, storage.table

    def into(partition: str, rows: Rows) -> float:
        begun = perf_counter()
        for _, seq, record in rows:
            put(
                TableName=table,
                Item={"PK": {"S": partition}, "SK": {"S": f"L#{seq:010d}"}, "r": {"B": record}},
                ConditionExpression="attribute_not_exists(PK)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        return perf_counter() - begun

    try:
        return paired.measure(
            storage,
            lambda start: written[start:],
            lambda rows: into("I#bare#benchmark#1", rows),
            lambda rows: into("I#bare#benchmark#2", rows),
            blocks,
            topic=TOPIC,
            bare_write="bare conditional PutItem",
            target=TARGET,
            block=BLOCK,
        )
    finally:
        storage.close()
