"""A durable step of the whole engine in object storage, against the bare conditional put of the same bytes.

The service is Azurite, or S3 as moto plays it, a process of its own; both sides put through the same obstore client.
Small blocks in turn: a handler of the running workflow ends the engine's block, and then puts the objects that the
engine has just put once more, under keys of their own. Another folder gets them a second time: what two runs of the
very same thing differ by is the noise of the method. What is measured is what engine and store add to a request.
"""

from __future__ import annotations

import urllib.request
from time import perf_counter
from typing import TYPE_CHECKING, Any

import obstore

from benchmarks.figure import Figure, Samples
from flux_blob import BlobStorage
from flux_core import Context, FluxEngine, create_workflow
from tests.services import azurite, moto

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOPIC = "durable step in object storage"
TARGET = 1.10
BLOCK = 10
"""Steps a block: short enough that both sides of a pair see the same machine."""


class _Pairs:
    """What the handlers of the measured workflow do at the end of each block."""

    def __init__(self, store: BlobStorage) -> None:
        objects: Any = store._connection.objects()
        self._client = objects._client
        self._put = objects.put
        objects.put = self._remembered
        self._begun = 0.0
        self._flip = False
        self.written: list[tuple[str, bytes]] = []
        self.engine: list[float] = []
        self.bare: list[float] = []
        self.again: list[float] = []
        self.sizes: list[int] = []

    def _remembered(self, key: str, data: bytes) -> bool:
        self.written.append((key, data))
        return bool(self._put(key, data))

    def end_block(self, *, measured: bool) -> None:
        """Take the engine's time since the last block, and do the bare puts of the same objects."""
        now = perf_counter()
        if measured:
            assert len(self.written) == BLOCK, f"{len(self.written)} puts in a block of {BLOCK} steps"
            pair = ("bare", self.bare), ("again", self.again)
            self._flip = not self._flip
            for folder, times in pair if self._flip else pair[::-1]:
                times.append(self._write([(f"{folder}/{key}", data) for key, data in self.written]))
            self.engine.append(now - self._begun)
            self.sizes += [len(data) for _, data in self.written]
        self.written.clear()
        self._begun = perf_counter()

    def _write(self, objects: Sequence[tuple[str, bytes]]) -> float:
        client, put = self._client, obstore.put
        begun = perf_counter()
        for key, data in objects:
            put(client, key, data, mode="create", use_multipart=False)
        return perf_counter() - begun


def measure(folder: Path, blocks: int) -> list[Figure]:
    """`blocks` pairs on each service, which is started and ended here."""
    process, azure = azurite.start(folder / "azurite.log")
    with process:
        try:
            azure.create_container("benchmark")
            options = {"endpoint": azure.endpoint, "account_name": azurite.ACCOUNT, "account_key": azurite.KEY}
            figures = _figures("Azurite", BlobStorage("az://benchmark", options=options), blocks)
        finally:
            process.kill()
    server, aws = moto.start()
    with server:
        try:
            signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request"}
            order = urllib.request.Request(f"{aws.endpoint}/benchmark", method="PUT", headers=signed)  # noqa: S310 -- our own
            with urllib.request.urlopen(order, timeout=30):  # noqa: S310 -- as above
                pass
            settings = {"endpoint": aws.endpoint, "region": "us-east-1", "access_key_id": "x", "secret_access_key": "y"}
            figures += _figures("S3 (moto)", BlobStorage("s3://benchmark", options=settings), blocks)
        finally:
            server.kill()
    return figures


def _figures(service: str, store: BlobStorage, blocks: int) -> list[Figure]:
    pairs = _Pairs(store)

    def step(ctx: Context) -> object:
        if ctx.current_step % BLOCK == 0:
            pairs.end_block(measured=ctx.current_step > 0)
        ctx.data["attempts"] = ctx.current_step
        return {"ok": True, "charge": "ch_00017", "amount": 4250}

    builder = create_workflow("benchmark", version="1")
    for number in range(BLOCK * blocks + 1):
        builder.step(f"step-{number}", step)
    try:
        result = FluxEngine(store, lease=3600).execute(builder, {"order": 1})
        assert result.status == "completed", result.error
    finally:
        store.close()

    def figure(name: str, unit: str, values: list[float], aim: float | None = None) -> Figure:
        return Figure.of(TOPIC, f"{service}, {name}", unit, Samples.of(values), aim)

    def over(these: list[float], those: list[float]) -> list[float]:
        return [one / other for one, other in zip(these, those, strict=True)]

    def each(values: list[float]) -> list[float]:
        return [value / BLOCK * 1e6 for value in values]

    return [
        figure("engine", "µs/step", each(pairs.engine)),
        figure("bare put", "µs/step", each(pairs.bare)),
        figure("engine over bare put, paired blocks", "ratio", over(pairs.engine, pairs.bare), TARGET),
        figure("bare put over itself (noise)", "ratio", over(pairs.again, pairs.bare)),
        figure("bytes an object", "B", [float(size) for size in pairs.sizes]),
    ]
