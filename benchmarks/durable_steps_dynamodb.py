"""A durable step of the whole engine on DynamoDB, against the bare conditional PutItem of the same bytes.

The server is moto, a process of its own; both sides use the same client, so connections, signatures and the SDK's own
work are the same. Small blocks in turn: a handler of the running workflow ends the engine's block, and then puts the
records that the engine has just put once more, into a partition of their own. Another partition gets them a second
time: what two runs of the very same thing differ by is the noise of the method. Real DynamoDB takes some milliseconds
for a write, as moto does; what is measured is what the engine and the store add to it.
"""

from __future__ import annotations

import os
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.figure import Figure, Samples
from flux_core import Context, FluxEngine, create_workflow
from tests.services.moto import ENVIRONMENT, start

if TYPE_CHECKING:
    from pathlib import Path

    from flux_core import InstanceRef
    from flux_core.ports import Header

TOPIC = "durable step on DynamoDB"
TARGET = 1.10
BLOCK = 10
"""Steps a block: short enough that both sides of a pair see the same machine."""


class _Pairs:
    """What the handlers of the measured workflow do at the end of each block."""

    def __init__(self, client: Any, table: str) -> None:
        self._put = client.put_item
        self._table = table
        self._begun = 0.0
        self._flip = False
        self.written: list[tuple[int, bytes]] = []
        self.engine: list[float] = []
        self.bare: list[float] = []
        self.again: list[float] = []
        self.sizes: list[int] = []

    def end_block(self, *, measured: bool) -> None:
        """Take the engine's time since the last block, and do the bare writes of the same records."""
        now = perf_counter()
        if measured:
            assert len(self.written) == BLOCK, f"{len(self.written)} records in a block of {BLOCK} steps"
            pair = ("I#bare#benchmark#1", self.bare), ("I#bare#benchmark#2", self.again)
            self._flip = not self._flip
            for partition, times in pair if self._flip else pair[::-1]:
                times.append(self._write(partition))
            self.engine.append(now - self._begun)
            self.sizes += [len(record) for _, record in self.written]
        self.written.clear()
        self._begun = perf_counter()

    def _write(self, partition: str) -> float:
        begun = perf_counter()
        for seq, record in self.written:
            self._put(
                TableName=self._table,
                Item={"PK": {"S": partition}, "SK": {"S": f"L#{seq:010d}"}, "r": {"B": record}},
                ConditionExpression="attribute_not_exists(PK)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        return perf_counter() - begun


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

    class Watched(DynamoDBStorage):
        """Remembers what the engine wrote; that is a list's append, beside a request."""

        def append(self, ref: InstanceRef, seq: int, record: bytes, header: Header | None = None) -> bytes | None:
            pairs.written.append((seq, record))
            return super().append(ref, seq, record, header)

    storage = Watched("benchmark", endpoint=endpoint, call_timeout=60)
    storage.ensure()
    pairs = _Pairs(storage.client, storage.table)

    def step(ctx: Context) -> object:
        if ctx.current_step % BLOCK == 0:
            pairs.end_block(measured=ctx.current_step > 0)
        ctx.data["attempts"] = ctx.current_step
        return {"ok": True, "charge": "ch_00017", "amount": 4250}

    builder = create_workflow("benchmark", version="1")
    for number in range(BLOCK * blocks + 1):
        builder.step(f"step-{number}", step)
    try:
        result = FluxEngine(storage, lease=3600).execute(builder, {"order": 1})
        assert result.status == "completed", result.error
    finally:
        storage.close()

    def figure(name: str, unit: str, values: list[float], aim: float | None = None) -> Figure:
        return Figure.of(TOPIC, name, unit, Samples.of(values), aim)

    def over(these: list[float], those: list[float]) -> list[float]:
        return [one / other for one, other in zip(these, those, strict=True)]

    def each(values: list[float]) -> list[float]:
        return [value / BLOCK * 1e6 for value in values]

    return [
        figure("engine", "µs/step", each(pairs.engine)),
        figure("bare conditional PutItem", "µs/step", each(pairs.bare)),
        figure("engine over bare PutItem, paired blocks", "ratio", over(pairs.engine, pairs.bare), TARGET),
        figure("bare PutItem over itself (noise)", "ratio", over(pairs.again, pairs.bare)),
        figure("bytes a record", "B", [float(size) for size in pairs.sizes]),
    ]
